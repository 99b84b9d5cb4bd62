"""What a workload looks like: rates, burstiness, lengths, sessions, prefix reuse. The numbers behind `simserve trace info`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.workload.requests import F64, I64, Labels, PrefixBlocks, RequestTable
from simserve.workload.shaping import root_arrival_s

SCALES_S = (1, 10, 60, 600, 3600)
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)


def trace_statistics(table: RequestTable) -> dict[str, Any]:
    """A JSON-ready summary of the table.

    Arrival figures are over rows with their own arrival time; rows that wait for another are counted in `dependent`. Lengths are over
    successful rows (output > 0).
    """
    ok = table.output_tokens > 0
    own = np.sort(table.arrival_s[table.after < 0])
    out: dict[str, Any] = {
        "rows": len(table),
        "failures": int(np.count_nonzero(~ok)),
        "dependent": int(np.count_nonzero(table.after >= 0)),
        "prompt_tokens_total": int(table.prompt_tokens.sum()),
        "output_tokens_total": int(table.output_tokens.sum()),
        "prompt_tokens": _summary(table.prompt_tokens[ok]),
        "output_tokens": _summary(table.output_tokens[ok]),
        "prompt_output_correlation": _correlation(table.prompt_tokens[ok], table.output_tokens[ok]),
        "models": _counts(table.label_model),
        "log_types": _counts(table.log_type),
        "slo_classes": _counts(table.slo_class),
        "arrivals": _arrivals(own) if table.provenance.get("has_arrivals", True) else None,
        "sessions": _sessions(table),
        "prefix": None
        if table.prefix is None
        else prefix_reuse(table.prefix, table.prompt_tokens, ok, table.output_tokens, table.content_owners()),
    }
    return out


def index_of_dispersion(arrival_s: F64, scale_s: float, span_s: float | None = None) -> float | None:
    """Variance over mean of the counts in windows of scale_s: 1 for Poisson at every scale, growing with the scale for a varying rate.

    Only whole windows inside the span (default: up to the last arrival) count; None with fewer than 10 of them.
    """
    if len(arrival_s) == 0:
        return None
    windows = int((float(arrival_s[-1]) if span_s is None else span_s) // scale_s)
    if windows < 10:
        return None
    index = (arrival_s // scale_s).astype(np.int64)
    counts = np.bincount(index[index < windows], minlength=windows)
    mean = counts.mean()
    return float(counts.var() / mean) if mean > 0 else None


def _arrivals(arrival_s: F64) -> dict[str, Any]:
    span = float(arrival_s[-1] - arrival_s[0]) if len(arrival_s) else 0.0
    gaps = np.diff(arrival_s)
    mean = float(gaps.mean()) if len(gaps) else 0.0
    minute = (arrival_s // 60).astype(np.int64)
    peak = int(np.unique(minute, return_counts=True)[1].max()) if len(minute) else 0
    return {
        "span_s": span,
        "rate_per_s": (len(arrival_s) - 1) / span if span > 0 else None,
        "busiest_minute_requests": peak,
        "gap_s": _summary(gaps),
        "gap_cv": float(gaps.std() / mean) if mean > 0 else None,
        "index_of_dispersion": {f"{scale}": index_of_dispersion(arrival_s, scale) for scale in SCALES_S},
    }


def _summary(values: I64 | F64) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    quantiles = np.quantile(values, QUANTILES)
    out = {"mean": float(values.mean()), "sd": float(values.std()), "min": float(values.min())}
    out |= {f"p{round(q * 100)}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return out | {"max": float(values.max())}


def _correlation(x: I64, y: I64) -> float | None:
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _counts(labels: Labels | None) -> dict[str, int] | None:
    if labels is None:
        return None
    counts = np.bincount(labels.codes, minlength=len(labels.names))
    return {name: int(c) for name, c in zip(labels.names, counts, strict=True)}


def _sessions(table: RequestTable) -> dict[str, Any] | None:
    rows = np.flatnonzero(table.session >= 0)
    if len(rows) == 0:
        return None
    turns = np.unique(table.session[rows], return_counts=True)[1]
    order = rows[np.argsort(table.session[rows], kind="stable")]
    same = table.session[order[1:]] == table.session[order[:-1]]
    dependent = bool(np.any(table.after >= 0))
    start = root_arrival_s(table)
    gaps = table.arrival_s[table.after >= 0] if dependent else np.diff(start[order])[same]
    growth = np.diff(table.prompt_tokens[order])[same]
    return {
        "sessions": len(turns),
        "rows_in_sessions": len(rows),
        "single_turn_fraction": float((turns == 1).mean()),
        "turns": _summary(turns),
        "think_s" if dependent else "gap_s": _summary(gaps),
        "prompt_growth_tokens": _summary(growth),
    }


def prefix_reuse(
    prefix: PrefixBlocks,
    prompt_tokens: I64,
    served: NDArray[np.bool_] | None = None,
    output_tokens: I64 | None = None,
    owner: I64 | None = None,
) -> dict[str, Any]:
    """What a prefix cache that forgets nothing finds when each prompt has been computed before the next arrives.

    block_hit_ratio  of all blocks, the leading ones of their prompt that an earlier row had: the figure that Mooncake publishes, in which
                     a block that its prompt fills in part counts as one
    token_hit_ratio  of all prompt tokens, those that an engine need not compute: full blocks only are kept, and one token of each
                     prompt is always computed. What a run counts as cached tokens whose KV blocks are as large as the trace's; with
                     smaller ones vLLM computes, of a prompt that is known in full, the last of them alone (get_computed_blocks)
    served           rows that are served; the others (failed in the source) neither find nor leave anything
    output_tokens    where the ids go on through outputs, what these leave is found too (but for each last token, which is never computed)
    owner            rows of different numbers find nothing of each other (`RequestTable.content_owners`)
    """
    if served is None:
        served = np.ones(len(prompt_tokens), dtype=bool)
    kept = np.where(served, np.diff(prefix.offsets), 0)
    prefix, tokens = prefix.leading(kept).chained(owner), prompt_tokens * served
    left = tokens if output_tokens is None else np.where(served, prefix.told(tokens, np.maximum(output_tokens - 1, 0)), 0)
    hits, unique = _leading_hits(prefix)
    found = np.minimum(_leading_hits(prefix.whole(left))[0], np.maximum(tokens - 1, 0) // prefix.block_tokens) * prefix.block_tokens
    of_prompts = prefix.whole(tokens) if prefix.outputs else prefix
    total, hits = len(of_prompts.ids), np.minimum(hits, np.diff(of_prompts.offsets))
    return {
        "block_tokens": prefix.block_tokens,
        "blocks": total,
        "unique_blocks": unique,
        "block_hit_ratio": float(hits.sum() / max(1, total)),
        "token_hit_ratio": float(found.sum() / max(1, int(tokens.sum()))),
    }


def _leading_hits(prefix: PrefixBlocks) -> tuple[I64, int]:
    """(of each prompt, the blocks before the first that no earlier prompt had; distinct blocks)."""
    counts = np.diff(prefix.offsets)
    if not len(prefix.ids):
        return counts, 0
    order = np.argsort(prefix.ids, kind="stable")  # numpy's own `unique` hashes, which takes minutes for ids that count up
    ids = prefix.ids[order]
    miss = np.zeros(len(ids), dtype=bool)
    miss[order[np.concatenate([[True], ids[1:] != ids[:-1]])]] = True
    misses_before = np.cumsum(miss)
    base = np.concatenate([[0], misses_before])[prefix.offsets[:-1]]
    hit = misses_before == np.repeat(base, counts)
    hits = np.bincount(np.repeat(np.arange(len(counts)), counts)[hit], minlength=len(counts)).astype(np.int64)
    return hits, int(np.count_nonzero(miss))
