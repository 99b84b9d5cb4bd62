"""The command line of benchmarks that write a page of docs/ from a folder of measurements."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def run(about: str | None, default: Path, page: Callable[[Path], str]) -> None:
    """Prints the page of `--measurements` (default: `default`), or writes it to `--page`. `about`: the help."""
    arguments = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--measurements", type=Path, default=default)
    arguments.add_argument("--page", type=Path, help="write the page there")
    given = arguments.parse_args()
    text = page(given.measurements)
    if given.page:
        given.page.write_text(text, encoding="utf-8")
    else:
        print(text)
