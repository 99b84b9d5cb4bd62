"""`python -m benchmarks.ascend points | fit | report`."""

import sys

from benchmarks.ascend import fit, points, report

if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) == 2 else ""
    if word == "points":
        print(points.table())
    elif word == "fit":
        fit.fit()
    elif word == "report":
        report.report()
    else:
        sys.exit("python -m benchmarks.ascend points | fit | report")
