"""Writes the tables of docs/ascend.md: points of operators, and serving runs with whole models left out of the fit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.ascend import points
from benchmarks.ascend.fit import LEFT_OUT, SHIPPED
from benchmarks.ascend.rows import cases, is_moe, model_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "ascend.md"
_TABLES = ("points", "rows", "skipped", "chosen")


def report() -> None:
    """Replaces what lies between the page's markers."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, table in zip(_TABLES, (points.table(), _rows(), _skipped(), _chosen()), strict=True):
        begin, end = f"<!-- {name}: written by python -m benchmarks.ascend report -->", f"<!-- end of {name} -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n\n{table}\n\n{end}{rest.split(end, 1)[1]}"
    DOCUMENT.write_text(text, encoding="utf-8")


def judged() -> tuple[dict[str, list[float]], dict[str, list[float]], int, int]:
    """Signed errors in percent of the rows of dense models and of those with experts, by model; rows simulated, and all rows."""
    moe = {model_of(case): is_moe(case) for case in cases() if not case.skip}
    found: tuple[dict[str, list[float]], dict[str, list[float]]] = (defaultdict(list), defaultdict(list))
    rows = json.loads(LEFT_OUT.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        if row["error_percent"] is not None:
            found[moe[row["model"]]][row["model"]].append(row["error_percent"])
    simulated = sum(len(errors) for kind in found for errors in kind.values())
    return found[0], found[1], simulated, len(cases())


def _rows() -> str:
    dense, moe, simulated, total = judged()
    lines = ["| models | rows | MAPE | median | bias |", "|---|--:|--:|--:|--:|"]
    for name, kind in (("dense", dense), ("with experts", moe)):
        lines += [_line(f"**{name}**", [e for errors in kind.values() for e in errors])]
        lines += [_line(model, errors) for model, errors in sorted(kind.items())]
    share = 100.0 * simulated / total
    return "\n".join([*lines, "", f"{simulated} of {total} rows are simulated ({share:.0f} %)."])


def _line(name: str, errors: Iterable[float]) -> str:
    found = np.array(list(errors))
    return f"| {name} | {len(found)} | {np.mean(np.abs(found)):.0f} % | {np.median(np.abs(found)):.0f} % | {np.mean(found):+.0f} % |"


def _skipped() -> str:
    reasons: dict[str, int] = defaultdict(int)
    for case in cases():
        if case.skip:
            reasons[case.skip if len(case.skip) < 90 else case.skip[:87] + "..."] += 1
    return "\n".join(f"- {count}: {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))


def _chosen() -> str:
    chosen = json.loads(LEFT_OUT.read_text(encoding="utf-8"))["chosen"]
    lines = ["| number | in the profiles | best over all models | chosen without one model |", "|---|--:|--:|---|"]
    for name, value in SHIPPED.items():
        others: dict[float, int] = defaultdict(int)
        for model, values in chosen.items():
            if model != "all":
                others[values[name]] += 1
        told = ", ".join(f"{other:g} ({count} times)" for other, count in sorted(others.items()))
        lines.append(f"| `{name}` | {value:g} | {chosen['all'][name]:g} | {told} |")
    return "\n".join(lines)
