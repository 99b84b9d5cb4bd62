"""`python -m benchmarks.measured_runs fit` and `python -m benchmarks.measured_runs report`."""

import sys

import benchmarks.measured_runs
from benchmarks.measured_runs import accuracy, learn

if sys.argv[1:] == ["fit"]:
    learn.fit()
elif sys.argv[1:] == ["report"]:
    accuracy.report()
else:
    sys.exit(benchmarks.measured_runs.__doc__)
