"""The report of one run, and the tables of it that a notebook shows."""

from __future__ import annotations

import json
from typing import Any

from simserve.catalogue import METRICS
from simserve.report.believed import ALL_STATS, belief_line, belief_rows, figures
from simserve.report.cluster_rows import cluster_facts, cluster_head, cluster_rows
from simserve.report.page import Picture, render
from simserve.report.provenance import operators
from simserve.report.rows import (
    INTERVAL_STATS,
    STATS,
    interval_figures,
    interval_note,
    interval_rows,
    milliseconds,
    outcome,
    stack,
    with_unit,
)
from simserve.report.scaling.words import facts


def run_html(summary: dict[str, Any], pictures: list[Picture], note: str = "") -> str:
    """The report of one run; the note stands before its plots."""
    return render("run.html.j2", **_content(summary), plots=pictures, plot_note=note)


def fragment_html(summary: dict[str, Any]) -> str:
    """The tables of a run without page and plots: what a notebook shows. It needs no style sheet."""
    return render("notebook.html.j2", **_content(summary))


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
                    (metric.label, metrics[metric.name]["count"], [milliseconds(metrics[metric.name][stat]) for stat in STATS])
                    for metric in METRICS
                    if metric.name in metrics
                ],
            )
            for slo_class, metrics in summary["latency"].items()
        ],
        "figures": figures(summary),
        "belief": {
            "line": belief_line(summary),
            "reasons": (summary.get("uncertainty") or {}).get("reasons", [])[1:],
            "stats": ALL_STATS,
            "rows": belief_rows(summary, ALL_STATS),
        },
        "bands": {
            "note": interval_note(summary),
            "stats": INTERVAL_STATS,
            "rows": interval_rows(summary),
            "figures": interval_figures(summary),
        },
        "slo": _slo(summary),
        "instances": summary["utilisation"]["instances"],
        "cluster": {
            "facts": cluster_facts(summary),
            "head": cluster_head(summary) if summary.get("cluster") else [],
            "rows": cluster_rows(summary),
        },
        "scaling": {"facts": facts(summary), **((summary.get("scaling") or {}).get("log") or {"head": [], "rows": [], "left_out": 0})},
        "costs": [(", ".join(group["instances"]), operators(group["cost"]), _pretty(group["cost"])) for group in summary["simulated"]],
        "experiment": _pretty(summary["experiment"]),
    }


def _slo(summary: dict[str, Any]) -> list[tuple[str, str, str, list[tuple[str, str, str]]]]:
    """(class, attainment, goodput, [(limit, seconds, attainment)]) for each class that was judged."""
    rows = []
    for slo_class, of_class in (summary["slo"] or {}).items():
        limits = of_class["limits"] or {}
        each = [(key, milliseconds(limits.get(key)), with_unit(fraction, "%")) for key, fraction in of_class["attainment_by_limit"].items()]
        rows.append((slo_class, with_unit(of_class["attainment"], "%"), with_unit(of_class["goodput_per_s"], "/s"), each))
    return rows


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)
