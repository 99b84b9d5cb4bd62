"""The table: by package how many mutants were killed, and who survived and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.mutation.trial import INCONCLUSIVE, KILLED, SURVIVED, UNREACHED

LISTED = Path(__file__).parent / "survivors.yaml"


class Listed:
    """Survivors that have been looked at: `equivalent` ones, which no test can kill, and `accepted` ones, which no test should."""

    def __init__(self, path: Path = LISTED) -> None:
        import yaml

        self.entries: list[dict[str, str]] = (yaml.safe_load(path.read_text(encoding="utf-8")) or []) if path.exists() else []

    def find(self, row: dict[str, Any]) -> dict[str, str] | None:
        """The entry of a mutant. In `file`, `was` and `now` a * stands for any text; `now` may be left out."""
        for entry in self.entries:
            now = entry.get("now", "*")
            if all(_same(row[key], pattern) for key, pattern in (("path", entry["file"]), ("was", entry["was"]), ("now", now))):
                return entry
        return None

    def gone(self, root: Path) -> list[dict[str, str]]:
        """Entries whose line is not in the source any more: they say nothing now and can go."""

        def there(entry: dict[str, str]) -> bool:
            first = entry["was"].strip().splitlines()[0]
            lines = (line.strip() for path in root.glob(entry["file"]) for line in path.read_text(encoding="utf-8").splitlines())
            return any(_same(line, first) for line in lines)

        return [entry for entry in self.entries if not there(entry)]


def _same(text: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern.strip()).replace(r"\*", ".*"), text, re.DOTALL) is not None


def markdown(rows: Iterable[dict[str, Any]], listed: Listed) -> str:
    """The table and the survivors, as Markdown. The rate is of conclusive mutants that are not equivalent."""
    rows = list(rows)
    packages = list(dict.fromkeys(row["package"] for row in rows))
    out = ["| package | mutants | killed | survived | equivalent | inconclusive | killed of conclusive, non-equivalent |", "|---" * 7 + "|"]
    total: Counter[str] = Counter()
    for package in packages:
        count = Counter(_kind(row, listed) for row in rows if row["package"] == package)
        total += count
        out.append(_line(package, count))
    if len(packages) > 1:
        out.append(_line("all", total))
    left = [row for row in rows if row["state"] in (SURVIVED, UNREACHED, INCONCLUSIVE)]
    out += ["", "## Not killed", ""] if left else []
    for row in sorted(left, key=lambda row: (row["path"], row["line"])):
        entry = listed.find(row)
        out.append(f"- `{row['path']}:{row['line']}` {row['operator']}: {_kind(row, listed)} ({entry['why'] if entry else row['by']})")
        out += ["  ```diff", *(f"  -{x}" for x in row["was"].splitlines()), *(f"  +{x}" for x in row["now"].splitlines()), "  ```"]
    return "\n".join(out) + "\n"


def _kind(row: dict[str, Any], listed: Listed) -> str:
    if row["state"] in (KILLED, INCONCLUSIVE):
        return str(row["state"])
    entry = listed.find(row)
    return "equivalent" if entry and entry["kind"] == "equivalent" else "survived"


def _line(name: str, count: Counter[str]) -> str:
    looked = count["killed"] + count["survived"]
    rate = f"{100 * count['killed'] / looked:.1f} %" if looked else "-"
    return (
        f"| {name} | {count.total()} | {count['killed']} | {count['survived']} | {count['equivalent']} | {count['inconclusive']} | {rate} |"
    )
