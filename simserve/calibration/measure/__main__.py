"""`python -m simserve.calibration.measure`."""

import sys

from simserve.calibration.measure.command import main

if __name__ == "__main__":
    sys.exit(main())
