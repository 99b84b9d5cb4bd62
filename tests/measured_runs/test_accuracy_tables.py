"""`python -m benchmarks.measured_runs report` finds its places in the documentation, and without a command it says what it does."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measured_runs import TABLES, accuracy


def test_the_tables_have_their_places_on_both_pages() -> None:
    for page in (accuracy.DOCUMENT, accuracy.GOALS):
        text = page.read_text(encoding="utf-8")
        assert text.count(accuracy.BEGIN) == text.count(accuracy.END) == 1 and text.index(accuracy.BEGIN) < text.index(accuracy.END)
    assert accuracy.ACCURACY.is_file()


def test_the_command_says_what_it_does() -> None:
    run = subprocess.run([sys.executable, "-m", "benchmarks.measured_runs"], cwd=accuracy.ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "measured_runs report" in run.stderr


def test_schemas_are_told_apart_by_their_columns() -> None:
    for i, reader in enumerate(TABLES):
        assert not any(other.columns <= reader.columns for other in TABLES[:i]), f"{reader.name} would never be asked"
