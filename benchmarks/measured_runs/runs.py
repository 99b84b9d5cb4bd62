"""Where the measured runs lie, and all of them as cases."""

from __future__ import annotations

from pathlib import Path

from simserve.validation.case import Case
from simserve.validation.readers import read_measurements

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
FOLDERS = ("serving_measurements", "more_serving_measurements")


def all_cases() -> tuple[list[Case], dict[str, str]]:
    """The cases of every table, and by name the tables that could not be read, with the reason: such a table does not stop the rest.

    Raises ConfigError for a folder without a table that can be read.
    """
    from benchmarks.measured_runs import TABLES

    cases: list[Case] = []
    unreadable: dict[str, str] = {}
    for folder in FOLDERS:
        found = read_measurements(SHARED / folder, readers=TABLES)
        cases += found.cases
        unreadable |= found.unreadable
    return cases, unreadable
