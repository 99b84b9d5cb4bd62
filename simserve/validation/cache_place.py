"""Where predictions of measured runs are kept between calls."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$SIMSERVE_CACHE/serving`, or `$XDG_CACHE_HOME/simserve/serving`, or the same under `~/.cache`. May not exist yet."""
    own = os.environ.get("SIMSERVE_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simserve"
    return base / "serving"
