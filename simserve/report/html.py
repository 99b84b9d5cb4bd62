"""report.html and the comparison page: one file each, with its style and pictures inside. Templates: report/templates."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.report.provenance import operators
from simserve.report.rows import (
    FIGURES,
    INTERVAL_STATS,
    LATENCY_NAMES,
    STATS,
    interval_figures,
    interval_note,
    interval_rows,
    milliseconds,
    outcome,
    stack,
    value_at,
    with_unit,
)

if TYPE_CHECKING:
    from jinja2 import Environment

    from simserve.report.compare import Comparison


class Picture(NamedTuple):
    """A plot as PNG, with the name of its file and its caption."""

    name: str
    caption: str
    png: bytes


def run_html(summary: dict[str, Any], pictures: list[Picture]) -> str:
    """The report of one run."""
    plots = [(picture.caption, "data:image/png;base64," + base64.b64encode(picture.png).decode()) for picture in pictures]
    return _environment().get_template("run.html.j2").render(**_content(summary), plots=plots)


def fragment_html(summary: dict[str, Any]) -> str:
    """The tables of a run without page and plots: what a notebook shows."""
    return _environment().get_template("tables.html.j2").render(**_content(summary))


def comparison_page(comparison: Comparison, summaries: list[dict[str, Any]]) -> str:
    """The page of a comparison."""
    return _environment().get_template("compare.html.j2").render(
        comparison=comparison, stacks=[stack(summary) for summary in summaries], outcomes=[outcome(summary) for summary in summaries]
    )  # fmt: skip


def _content(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "outcome": outcome(summary),
        "stack": stack(summary),
        "stats": STATS,
        "latency": [
            (
                slo_class,
                [
                    (label, metrics[metric]["count"], [milliseconds(metrics[metric][stat]) for stat in STATS])
                    for metric, label in LATENCY_NAMES.items()
                ],
            )
            for slo_class, metrics in summary["latency"].items()
        ],
        "figures": [(f.name, with_unit(value, f.unit)) for f in FIGURES if (value := value_at(summary, f.path)) is not None],
        "bands": {
            "note": interval_note(summary),
            "stats": INTERVAL_STATS,
            "rows": interval_rows(summary),
            "figures": interval_figures(summary),
        },
        "slo": _slo(summary),
        "instances": summary["utilisation"]["instances"],
        "costs": [(", ".join(group["instances"]), operators(group["cost"]), _pretty(group["cost"])) for group in summary["simulated"]],
        "experiment": _pretty(summary["experiment"]),
    }


def _slo(summary: dict[str, Any]) -> list[tuple[str, str, str, list[tuple[str, str, str]]]]:
    """(class, attainment, goodput, [(limit, seconds, attainment)]) for each class that was judged."""
    rows = []
    for slo_class, of_class in (summary["slo"] or {}).items():
        limits = of_class["limits"] or {}
        each = [(key, milliseconds(limits.get(key)), with_unit(share, "%")) for key, share in of_class["attainment_by_limit"].items()]
        rows.append((slo_class, with_unit(of_class["attainment"], "%"), with_unit(of_class["goodput_per_s"], "/s"), each))
    return rows


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("simserve.report"), autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["share"] = lambda value: with_unit(value, "%")
    environment.filters["unit"] = with_unit
    return environment
