"""The figures that tables show, in their order and units: shared by the terminal, the report and the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from simserve.catalogue import METRICS, SHOWN_FIGURES
from simserve.report.workload_notes import trace_line

STATS = ("mean", "p50", "p90", "p95", "p99", "max")


class Figure(NamedTuple):
    """One number of a summary: where it lies, how it is called, its unit ("%" is a fraction shown as per cent), which way is better, its
    name in predicates of studies."""

    path: tuple[str, ...]
    name: str
    unit: str
    better: Literal["higher", "lower", ""] = ""
    quantity: str = ""
    scaled: bool = False


FIGURES: tuple[Figure, ...] = tuple(
    Figure(known.path_of("all"), known.label, known.unit, known.better if known.judged else "", known.quantity, known.scaled)
    for known in SHOWN_FIGURES
)


def value_at(summary: dict[str, Any], path: tuple[str, ...]) -> float | None:
    """The number at a path of a summary; None when it is not there or not defined."""
    node: Any = summary
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else None


def number(value: float | None) -> str:
    """A number in at most five characters or so; a dash for what is not defined."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6:
        return f"{value:.3e}"
    if size >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 1e-4 else f"{value:.1e}"


def with_unit(value: float | None, unit: str) -> str:
    """The number with its unit; fractions become per cent, bytes gigabytes."""
    if value is None:
        return "–"
    if unit == "B":
        return f"{number(value / 1e9)} GB"
    if unit == "USD":
        return f"${number(value)}"
    return f"{100 * value:.1f} %" if unit == "%" else f"{number(value)}{' ' + unit if unit else ''}"


def milliseconds(value: float | None) -> str:
    """Seconds shown as milliseconds below 10 s and as seconds above."""
    if value is None:
        return "–"
    if abs(value) >= 10:
        return f"{value:,.1f} s"
    return f"{1e3 * value:,.0f} ms" if abs(value) >= 1 else f"{1e3 * value:.1f} ms" if abs(value) >= 1e-3 else f"{1e3 * value:.3g} ms"


INTERVAL_STATS = ("mean", "p50", "p90", "p95", "p99")


def interval_note(summary: dict[str, Any]) -> str:
    """What the bands are, in one sentence; empty when the run has none."""
    bands = summary.get("intervals")
    if not bands:
        return ""
    low, high = (f"{100 * bands[key]:.0f} %" for key in ("low_quantile", "high_quantile"))
    return f"Bands: {low} to {high} of {bands['draws']} runs with {bands['of']}."


def interval_rows(summary: dict[str, Any], stats: Sequence[str] = INTERVAL_STATS) -> list[tuple[str, list[str]]]:
    """(metric, its band for each statistic) over all requests; empty when the run has no bands."""
    bands = summary.get("intervals")
    if not bands:
        return []
    latency = bands["latency"]["all"]
    shown = [metric for metric in METRICS if metric.headline and metric.banded]
    return [(metric.label, [_band(latency[metric.name][stat], milliseconds) for stat in stats]) for metric in shown]


def interval_figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, band) of the rates; what has none is left out."""
    bands = summary.get("intervals") or {}
    out = []
    for figure in FIGURES:
        node: Any = bands
        for key in figure.path:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, list):
            out.append((figure.name, _band(node, partial(with_unit, unit=figure.unit))))
    return out


def _band(band: list[float] | None, show: Callable[[float], str]) -> str:
    """`41.2 to 44.0 ms`: the unit once when both ends have it."""
    if band is None:
        return "–"
    low, high = (show(value) for value in band)
    value, _, unit = low.rpartition(" ")
    return f"{value or low} to {high}" if value and high.endswith(f" {unit}") else f"{low} to {high}"


def outcome(summary: dict[str, Any]) -> str:
    """One sentence: how the requests ended and how much time was simulated."""
    counts = summary["requests"]
    parts = [f"{counts['completed']:,} completed"]
    parts += [f"{counts[key]:,} {key}" for key in ("rejected", "failed", "cancelled", "unfinished") if counts.get(key)]
    return f"{counts['total']:,} requests: {', '.join(parts)}. {summary['window']['run_s']:,.1f} s simulated."


def stack(summary: dict[str, Any]) -> list[str]:
    """What was simulated, a line for each group of equal instances, and what the trace was taken for."""
    lines = []
    for group in summary["simulated"]:
        cost = group["cost"]
        facts = [*(_name(cost.get(key)) for key in ("model", "hardware", "parallel")), engine(cost)]
        what = ", ".join(fact for fact in [*facts, group["policy"], _drafted(cost)] if fact)
        devices = f"{group['devices']} device{'s' if group['devices'] != 1 else ''}"
        instances = len(group["instances"])
        lines.append(f"{instances} instance{'s, each' if instances != 1 else ''} on {devices}: {what}")
        if (line := schedule_line(cost)) and line not in lines:
            lines.append(line)
    trace = trace_line(summary.get("workload", {}).get("provenance", {}))
    return [*lines, trace] if trace else lines


def schedule_line(cost: dict[str, Any]) -> str:
    """Which versions of the engine schedule as simulated, step for step (docs/conformance.md); empty where a description says nothing."""
    schedule = cost.get("schedule")
    if not isinstance(schedule, dict):
        return ""
    if schedule["policy"] != schedule["own_policy"]:
        return f"schedule not verified: policy {schedule['policy']} is not the engine's own"
    versions = schedule["versions"]
    if not versions:
        return "schedule not verified"
    text = "; ".join(verified_text(one, one["engine"] != before) for one, before in _with_before(versions))
    if other := schedule.get("not_as_compared"):
        return f"schedule not verified with {', '.join(other)}; without: {text}"
    return f"schedule verified: {text}"


def verified_text(version: dict[str, Any], named: bool = True) -> str:
    """`vLLM 0.11.0, 100 of 100 workloads`, and the kinds of which some were not equal."""
    name = f"{version['engine']} {version['version']}" if named else version["version"]
    but = f" (not equal: {', '.join(version['not_equal'])})" if version["not_equal"] else ""
    return f"{name}, {version['equal']} of {version['workloads']} workloads{but}"


def _with_before(versions: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Each version with the engine of the one before."""
    return [(one, versions[at - 1]["engine"] if at else "") for at, one in enumerate(versions)]


def _drafted(cost: dict[str, Any]) -> str:
    """Who drafts how many tokens; empty without speculative decoding."""
    draft = cost.get("draft")
    if not isinstance(draft, dict) or "method" not in draft:
        return ""
    tokens = draft.get("steps")
    tree = f" in a tree of top-k {draft['top_k']}" if draft.get("top_k", 1) > 1 else ""
    return f"{draft['method']} drafting {tokens} token{'s' if tokens != 1 else ''}{tree}"


def engine(cost: dict[str, Any]) -> str:
    """The simulated engine and the versions its profile speaks for; empty when the cost model does not say."""
    profile = cost.get("engine_profile") or cost.get("engine")
    if isinstance(profile, dict) and "engine" in profile:
        return " ".join(str(profile[key]) for key in ("engine", "versions") if profile.get(key))
    return _name(profile)


def _name(fact: Any) -> str:
    """A short name of a described thing: itself, or its name and version."""
    if isinstance(fact, dict):
        if "name" in fact:
            return " ".join(str(fact[key]) for key in ("name", "version") if fact.get(key))
        return " ".join(f"{key}={value}" for key, value in fact.items() if isinstance(value, str | int) and value != 1)
    return str(fact) if fact else ""
