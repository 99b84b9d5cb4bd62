"""`python -m simserve.calibration.replay`."""

import sys

from simserve.calibration.replay.command import main

if __name__ == "__main__":
    sys.exit(main())
