"""Command lines on stdout, and where the rest of what is needed lies."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from simserve.deploy.result import Launch

_WIDEST = 120


def show_launch(launch: Launch, written_to: Path | None, *, quiet: bool = False) -> None:
    """The commands on stdout, each with what it starts, as wide as the terminal; notes on stderr. `written_to`: the folder of the files."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    print(f"\n# {launch.title} (flags as of {launch.checked})")
    print(launch.script(width))
    for note in () if quiet else launch.notes:
        print(f"! {note}", file=sys.stderr)
    names = ", ".join(name for name in launch.files() if name != "commands.sh")
    print(f"# {names}: in {written_to}" if written_to is not None else f"# {names}: written with --out")
