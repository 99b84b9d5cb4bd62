"""What the terminal and the report show of a cluster: sentences, and a table with a row for each instance or for equal ones together."""

from __future__ import annotations

from typing import Any

from simserve.report.rows import milliseconds, with_unit

SINGLE_ROWS = 8
"""With more instances than this, the terminal shows equal ones in one row."""


def cluster_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, what happened) of what there was: instances that came and went, failures, KV transfers, migrations. Empty for one instance."""
    cluster = summary.get("cluster")
    if not cluster:
        return []
    facts = []
    serving = cluster["serving"]
    if serving["min"] != serving["max"] or serving["max"] != cluster["instances"]:
        paid = f"{with_unit(cluster['instances_mean'], '')} of {cluster['instances']:,} on average"
        served = f"{serving['min']:,} to {serving['max']:,} served at a time, {serving['end']:,} at the end"
        ordered = (summary.get("scaling") or {}).get("nodes") is not None  # it is nodes that are paid for
        facts.append(("Instances ordered or serving" if ordered else "Instances paid for", f"{paid}; {served}"))
    if cluster["failures"]:
        lost = summary["requests"]["reasons"]["failed"].get("its instance died", 0)
        ended = f"; {lost:,} request{'s' if lost != 1 else ''} failed with them" if lost else ""
        facts.append(("Instance failures", f"{cluster['failures']:,}; availability {with_unit(cluster['availability'], '%')}{ended}"))
    if cluster["transferred_tokens"]:
        facts.append(("Prefill to decode", f"{cluster['transferred_tokens']:,} tokens transferred"))
    if (moves := cluster["migration"]) is not None:
        facts.append(("Live migrations", _migrations(moves)))
    return facts


def _migrations(moves: dict[str, Any]) -> str:
    if not moves["begun"]:
        return "none"
    of = f" of {moves['begun']:,}" if moves["begun"] != moves["done"] else ""
    parts = [f"{moves['done']:,}{of} done, {moves['moved_tokens']:,} tokens copied"]
    if pause := moves["pause_s"]:
        parts.append(f"pause {milliseconds(pause['mean'])} on average, {milliseconds(pause['max'])} at most")
    parts += [f"{number:,} given up: {reason}" for reason, number in moves["given_up"].items()]
    return "; ".join(parts)


def cluster_head(summary: dict[str, Any]) -> list[str]:
    """The head of the rows below."""
    moves = ["moved in", "moved out"] if _moved(summary) else []
    return ["instance", "role", "prefills", "finished", "tokens", "served", "busy", "KV mean", "KV max", *moves]


def cluster_rows(summary: dict[str, Any], single: int | None = None) -> list[list[str]]:
    """A row for each instance; above `single` instances, one for all of equal role and policy: sums, for fractions the mean, of maxima the
    greatest. `finished` = requests that completed there; `served` is the fraction of the run. Empty for one instance."""
    cluster = summary.get("cluster")
    if not cluster:
        return []
    together: dict[Any, list[dict[str, Any]]] = {}
    for number, (own, use) in enumerate(zip(cluster["each"], summary["utilisation"]["instances"], strict=True)):
        key = number if single is None or len(cluster["each"]) <= single else (own["role"], use["policy"], use["devices"])
        together.setdefault(key, []).append(use | own)
    return [_row(members, summary["window"]["run_s"], _moved(summary)) for members in together.values()]


def _moved(summary: dict[str, Any]) -> bool:
    return bool((summary["cluster"]["migration"] or {}).get("done"))


def _row(members: list[dict[str, Any]], run_s: float, moved: bool) -> list[str]:
    def each(key: str) -> list[float]:
        return [one[key] for one in members if one.get(key) is not None]

    def mean(key: str) -> float | None:
        values = each(key)
        return sum(values) / len(values) if values else None

    size = len(members)
    counts = [f"{sum(each(key)):,}" for key in ("prefills", "requests", "output_tokens")]
    served = sum(each("served_s")) / (size * run_s) if run_s else None
    return [
        members[0]["name"] if size == 1 else f"{size} x {members[0]['policy']}",
        members[0]["role"] or "–",
        *counts,
        with_unit(served, "%"),
        *(with_unit(mean(key), "%") for key in ("busy_fraction", "kv_used_mean")),
        with_unit(max(each("kv_used_max"), default=None), "%"),
        *(f"{sum(each(key)):,}" for key in ("moved_in", "moved_out") if moved),
    ]
