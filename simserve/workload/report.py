"""Trace statistics on the terminal, for `simserve trace`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def print_statistics(statistics: dict[str, Any], provenance: dict[str, Any], *, as_json: bool) -> None:
    """Prints the result of `trace_statistics` on stdout: pure JSON, or tables."""
    if as_json:
        import json

        print(json.dumps({"provenance": provenance, **statistics}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(statistics, provenance):
        facts.add_row(name, escape(value))
    console.print(facts)

    rows = [("prompt tokens", statistics["prompt_tokens"]), ("output tokens", statistics["output_tokens"])]
    if statistics["arrivals"]:
        rows.append(("arrival gap, s", statistics["arrivals"]["gap_s"]))
    if statistics["sessions"]:
        sessions = statistics["sessions"]
        rows.append(("turns", sessions["turns"]))
        rows += [(name, sessions[key]) for key, name in (("gap_s", "turn gap, s"), ("think_s", "think time, s")) if key in sessions]
        rows.append(("prompt growth", sessions["prompt_growth_tokens"]))
    rows = [(name, summary) for name, summary in rows if summary is not None]
    lengths = Table(box=None, pad_edge=False, header_style="bold")
    lengths.add_column("", no_wrap=True)
    for name, _ in rows:
        lengths.add_column(name, justify="right")
    for figure in ("mean", "sd", "min", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "max"):
        lengths.add_row(figure, *(_number(summary[figure]) for _, summary in rows))
    console.print()
    console.print(lengths)


def _facts(s: dict[str, Any], provenance: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "file", f"{provenance.get('file', '-')}"
    about = provenance.get("read_as", {})
    yield "read as", about.get("summary", "-")
    if about.get("told_by"):
        yield "told by", "; ".join(about["told_by"])
    yield "requests", f"{s['rows']:,}, {s['failures']:,} failed ({100 * s['failures'] / max(1, s['rows']):.2f} %)"
    if s["dependent"]:
        yield "wait for another", f"{s['dependent']:,}"
    a = s["arrivals"]
    if a is None:
        yield "arrivals", "none (lengths only)"
    else:
        rate = "-" if a["rate_per_s"] is None else f"{a['rate_per_s']:.4g}/s on average"
        yield "arrivals", f"{rate} over {_duration(a['span_s'])}; busiest minute {a['busiest_minute_requests']:,} requests"
        if a["gap_cv"] is not None:
            yield "gap CV", f"{a['gap_cv']:.3g} (Poisson: 1)"
        known = [f"{_number(float(v))} at {scale} s" for scale, v in a["index_of_dispersion"].items() if v is not None]
        if known:
            yield "dispersion", ", ".join(known) + " (Poisson: 1)"
    for key, name in (("models", "models"), ("log_types", "log types"), ("slo_classes", "SLO classes")):
        if s[key] and list(s[key]) != ["default"]:
            yield name, ", ".join(f"{k} {v:,}" for k, v in s[key].items())
    if s["prompt_output_correlation"] is not None:
        yield "prompt-output correlation", f"{s['prompt_output_correlation']:.2f}"
    if s["sessions"]:
        x = s["sessions"]
        yield "sessions", f"{x['sessions']:,} with {x['rows_in_sessions']:,} requests; {100 * x['single_turn_fraction']:.0f} % of one turn"
    if s["prefix"]:
        p = s["prefix"]
        yield (
            "prefix reuse",
            f"{100 * p['block_hit_ratio']:.1f} % of {p['blocks']:,} blocks of {p['block_tokens']} tokens "
            f"({100 * p['token_hit_ratio']:.1f} % of prompt tokens) with an infinite cache",
        )
    if provenance.get("columns_not_used"):
        yield "not used", ", ".join(provenance["columns_not_used"])
    for note in provenance.get("notes", ()):
        yield "note", note


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
