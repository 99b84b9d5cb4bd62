"""`python -m simserve`: the same as the `simserve` command."""

import sys

from simserve.cli import main

sys.exit(main())
