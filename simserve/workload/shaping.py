"""What may be done to a trace before it is served: window, filters, limits of length, resampling, rate, sessions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simserve.bounds import LEAST_RATE_PER_S, MOST_RATE_PER_S, MOST_REQUESTS, MOST_S, MOST_TOKENS
from simserve.errors import TraceError, nearest
from simserve.workload.requests import F64, I64, AlsoAfter, Labels, RequestTable


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceFilter(_Strict):
    """Which rows of the trace to keep, by what the trace says about them."""

    model: str | tuple[str, ...] | None = Field(default=None, description="keep rows of this model label (or these), e.g. ChatGPT")
    log_type: str | tuple[str, ...] | None = Field(default=None, description="keep rows of this log type (or these), e.g. API log")


class TokenLimits(_Strict):
    """Upper limits in tokens; absent = no limit."""

    prompt_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS, description="limit of the prompt, tokens")
    output_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS, description="limit of the output, tokens")
    total_tokens: int | None = Field(default=None, ge=2, le=2 * MOST_TOKENS, description="limit of prompt + output, tokens")


class Shaping(_Strict):
    """Options common to all trace formats. They apply in the order listed, whatever their order in the file."""

    filter: TraceFilter = Field(default=TraceFilter(), description="which rows to keep, by the trace's labels")
    start_s: float = Field(
        default=0.0,
        ge=0,
        le=MOST_S,
        allow_inf_nan=False,
        description="start of the window, seconds of trace time after the trace's first request",
    )
    duration_s: float | None = Field(
        default=None, gt=0, le=MOST_S, allow_inf_nan=False, description="length of the window, seconds of trace time (before rate_scale)"
    )
    drop: TokenLimits = Field(default=TokenLimits(), description="leave out requests longer than these limits")
    clip: TokenLimits = Field(default=TokenLimits(), description="shorten requests to these limits; an output keeps at least 1 token")
    resample: int | None = Field(
        default=None,
        ge=1,
        le=MOST_REQUESTS,
        description="draw this many requests from the window with replacement (arrival and lengths together)",
    )
    limit: int | None = Field(default=None, ge=1, le=MOST_REQUESTS, description="keep only the first requests, this many")
    rate_scale: float = Field(
        default=1.0,
        ge=LEAST_RATE_PER_S,
        le=MOST_RATE_PER_S,
        allow_inf_nan=False,
        description="arrivals this many times as fast: times are divided by it",
    )
    sessions: Literal["replay", "dependent"] = Field(
        default="replay",
        description="replay: every turn at its recorded time; dependent: a turn follows the completion of the one before it after a "
        "think time (recorded gap less the recorded answer time, never below 0; not scaled)",
    )
    strict: bool = Field(default=False, description="refuse a trace whose times are out of order instead of sorting it")


def shape(table: RequestTable, options: Shaping, seed: int, where: str) -> RequestTable:
    """The table after all options. Raises TraceError."""
    if options.sessions == "dependent":
        if bool(np.all(table.session < 0)):
            raise TraceError(f"{where}: sessions: dependent, but the trace has no sessions")
        if options.resample:
            raise TraceError(f"{where}: resample breaks sessions apart; use sessions: replay")
    origin = root_arrival_s(table)
    keep = _kept(table, options, origin, where)
    dependent = table.after >= 0
    if bool(dependent.any()):
        if options.resample:
            raise TraceError(f"{where}: resample would break the dependencies between rows (column 'after')")
        keep = _with_ancestors(keep, table)
    rows = np.flatnonzero(keep)
    if len(rows) == 0:
        raise nothing_left(where, len(table), float(origin.max(initial=0.0)))
    if options.resample is not None:
        rows = np.sort(np.random.default_rng(np.random.SeedSequence(seed)).integers(0, len(rows), options.resample))
        rows = np.flatnonzero(keep)[rows]
    if options.limit is not None:
        rows = rows[: options.limit]
    out = table if len(rows) == len(table) and options.resample is None else table.take(rows)
    out = clip_tokens(out, options.clip)
    if options.sessions == "dependent":
        out = make_dependent(out)
    own = out.after < 0
    arrival = np.where(own, _faster(out.arrival_s, options), out.arrival_s)
    return replace(out, arrival_s=arrival)


def shape_part(table: RequestTable, options: Shaping, limit: int, where: str) -> RequestTable:
    """As `shape` of a part of a table, of which at most `limit` rows are kept: what is done to each row alone. There may be none left.
    Raises TraceError."""
    rows = np.flatnonzero(_kept(table, options, table.arrival_s, where))[:limit]
    out = clip_tokens(table if len(rows) == len(table) else table.take(rows), options.clip)
    return replace(out, arrival_s=_faster(out.arrival_s, options))


def _kept(table: RequestTable, options: Shaping, origin: F64, where: str) -> NDArray[np.bool_]:
    """The rows that filter, window and limits leave. `origin`: when each, or the chain that it is in, arrives."""
    keep = _matching(table, options.filter, where)
    keep &= origin >= options.start_s
    if options.duration_s is not None:
        keep &= origin < options.start_s + options.duration_s
    return keep & _within(table, options.drop)


def _faster(arrival_s: F64, options: Shaping) -> F64:
    return (arrival_s - options.start_s) / options.rate_scale


def nothing_left(where: str, rows: int, last_s: float) -> TraceError:
    """What is said of a trace of so many rows of which none is kept."""
    return TraceError(f"{where}: no request is left by the window and filters; the trace has {rows} rows over {last_s:.0f} s")


def root_arrival_s(table: RequestTable) -> F64:
    """Arrival of each row, or of the row at the start of its chain of dependencies."""
    return root_arrivals(table.arrival_s, table.after, table.also_after)


def root_arrivals(arrival_s: F64, after: I64, also_after: AlsoAfter | None = None) -> F64:
    """As `root_arrival_s`, from the columns. Of several chains, the one that begins last."""
    if also_after is not None:
        begins: list[float] = arrival_s.tolist()
        for row in np.flatnonzero(after >= 0).tolist():  # those it waits for are earlier rows
            begins[row] = max(begins[parent] for parent in (after[row], *also_after.of(row)))
        return np.array(begins)
    root = np.arange(len(after))
    parent = np.where(after >= 0, after, root)
    # Pointer jumping: the distance to the root halves each round.
    while not np.array_equal(parent, root):
        root, parent = parent, parent[parent]
    out: F64 = arrival_s[root]
    return out


def _with_ancestors(keep: NDArray[np.bool_], table: RequestTable) -> NDArray[np.bool_]:
    """A turn is kept only with every turn before it: its context would not exist otherwise."""
    after = table.after
    if table.also_after is not None:
        kept: list[bool] = keep.tolist()
        for row in np.flatnonzero(after >= 0).tolist():
            kept[row] = kept[row] and all(kept[parent] for parent in (after[row], *table.also_after.of(row)))
        return np.array(kept)
    own = np.arange(len(after))
    parent = np.where(after >= 0, after, own)
    while True:
        keep = keep & keep[parent]
        if np.array_equal(parent, parent[parent]):
            return keep
        parent = parent[parent]


def _matching(table: RequestTable, wanted: TraceFilter, where: str) -> NDArray[np.bool_]:
    keep = np.ones(len(table), dtype=bool)
    for key, value, labels in (("model", wanted.model, table.label_model), ("log_type", wanted.log_type, table.log_type)):
        if value is not None:
            keep &= rows_with_label(labels, key, (value,) if isinstance(value, str) else value, where)
    return keep


def rows_with_label(labels: Labels | None, key: str, names: tuple[str, ...], where: str) -> NDArray[np.bool_]:
    """Rows whose label is one of the names. Raises TraceError when the trace has no such label column or never uses the name."""
    if labels is None:
        raise TraceError(f"{where}: {key}: the trace does not say the {key.replace('_', ' ')} of its requests")
    for name in names:
        if name not in labels.names:
            raise TraceError(f"{where}: {key}: '{name}' does not occur in the trace{nearest(name, labels.names)}")
    chosen: NDArray[np.bool_] = np.isin(labels.codes, [labels.names.index(name) for name in names])
    return chosen


def _within(table: RequestTable, limits: TokenLimits) -> NDArray[np.bool_]:
    keep = np.ones(len(table), dtype=bool)
    if limits.prompt_tokens is not None:
        keep &= table.prompt_tokens <= limits.prompt_tokens
    if limits.output_tokens is not None:
        keep &= table.output_tokens <= limits.output_tokens
    if limits.total_tokens is not None:
        keep &= table.prompt_tokens + table.output_tokens <= limits.total_tokens
    return keep


def clip_tokens(table: RequestTable, limits: TokenLimits) -> RequestTable:
    """Shortens requests as a server with that context would: the output first, to 1 token, then the prompt. Failed rows stay failed."""
    prompt, output = table.prompt_tokens, table.output_tokens
    if limits.prompt_tokens is not None:
        prompt = np.minimum(prompt, limits.prompt_tokens)
    if limits.output_tokens is not None:
        output = np.minimum(output, limits.output_tokens)
    if limits.total_tokens is not None:
        prompt = np.minimum(prompt, limits.total_tokens - (output > 0))
        output = np.minimum(output, limits.total_tokens - prompt)
    if prompt is table.prompt_tokens and output is table.output_tokens:
        return table
    prefix = table.prefix
    if prefix is not None and (prefix.outputs or prompt is not table.prompt_tokens):
        prefix = prefix.clipped(prompt, output, prompt < table.prompt_tokens)
    return replace(table, prompt_tokens=prompt, output_tokens=output, prefix=prefix)


def make_dependent(table: RequestTable) -> RequestTable:
    """Turn k + 1 of a session waits for turn k: `after` points to it and the arrival becomes max(0, gap - elapsed of turn k) seconds.

    An answer time that the trace does not have counts as 0: the whole gap is then think time. A row that waits for several others says so
    itself and is left as it is.
    """
    rows = np.flatnonzero(table.session >= 0)
    rows = rows[np.argsort(table.session[rows], kind="stable")]
    later = np.flatnonzero(table.session[rows[1:]] == table.session[rows[:-1]]) + 1
    turn, before = rows[later], rows[later - 1]
    if table.also_after is not None:
        one = table.also_after.counts[turn] == 0
        turn, before = turn[one], before[one]
    answer = 0.0 if table.elapsed_s is None else np.nan_to_num(table.elapsed_s[before])
    after, arrival = table.after.copy(), table.arrival_s.copy()
    after[turn] = before
    arrival[turn] = np.maximum(0.0, table.arrival_s[turn] - table.arrival_s[before] - answer)
    return replace(table, after=after, arrival_s=arrival)


def options_from(values: dict[str, Any]) -> Shaping:
    """Shaping from keyword options: its fields, or `clip_total_tokens=...`, `drop_prompt_tokens=...`, `model=...`, `log_type=...`.

    Raises TraceError naming the option.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        group, _, rest = key.partition("_")
        if group in ("clip", "drop") and rest:
            nested.setdefault(group, {})[rest] = value
        elif key in ("model", "log_type"):
            nested.setdefault("filter", {})[key] = value
        elif key in Shaping.model_fields:
            nested[key] = value
        else:
            raise TraceError(f"unknown trace option '{key}'{nearest(key, Shaping.model_fields)}")
    try:
        return Shaping.model_validate(nested)
    except ValidationError as e:
        first = e.errors()[0]
        raise TraceError(f"trace option '{'.'.join(str(p) for p in first['loc'])}': {first['msg']}, found {first['input']!r}") from None
