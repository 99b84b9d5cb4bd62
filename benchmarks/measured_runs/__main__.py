"""`python -m benchmarks.measured_runs fit [PROFILE ...]` and `python -m benchmarks.measured_runs report`."""

import sys

import benchmarks.measured_runs
from benchmarks.measured_runs import accuracy

if sys.argv[1:2] == ["fit"]:
    accuracy.fit(sys.argv[2:])
elif sys.argv[1:] == ["report"]:
    accuracy.report()
else:
    sys.exit(benchmarks.measured_runs.__doc__)
