"""The `workload:` section of an experiment, and the Workload it stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.bounds import MOST_EXACT, MOST_REQUESTS, MOST_S, MOST_SEED, MOST_TOKENS
from simserve.errors import ConfigError, TraceError
from simserve.workload import formats
from simserve.workload.generators.arrivals import Arrivals, arrival_times
from simserve.workload.generators.lengths import LengthDistribution
from simserve.workload.requests import Labels, RequestTable, Workload
from simserve.workload.shaping import Shaping, rows_with_label, shape

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[formats.names()]  # those of installed packages included


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceSource(Shaping):
    """A recorded trace: which file, and what to make of it."""

    path: str = Field(
        min_length=1,
        description="trace file (plain or .gz); relative to the experiment's folder, else to the current directory, else a bundled trace",
    )
    format: FormatName | None = Field(
        default=None, description="format of the file; absent = told by the names of its columns and checked against its content"
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = Field(
        default=None, description="unit of the file's times, where they are numbers; absent = that of the format"
    )
    block_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="prompt tokens that one id of its contents stands for; absent = that of the format"
    )


class BurstGptLikeSource(Shaping):
    """A synthetic trace with the published statistics of BurstGPT (61 days, 1.43 million requests), made on the spot."""

    days: float = Field(default=1.0, gt=0, le=3660, description="length of the stretch, days")
    start_day: float = Field(default=9.0, ge=0, le=3660, description="start of the stretch, day of the trace (API traffic begins on day 9)")
    conversations: bool = Field(default=True, description="include conversation requests")
    api: bool = Field(default=True, description="include the API batch jobs")
    failures: bool = Field(default=True, description="keep requests that the source system failed (0 tokens; they cost nothing)")
    multi_turn: bool = Field(default=False, description="conversations as sessions with growing context, after BurstGPT_3")
    prefix_block_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TOKENS,
        description="with multi_turn: tokens per block of prompt identity, so that turns can reuse their history",
    )
    seed: int | None = Field(default=None, ge=0, le=MOST_SEED, description="seed of the trace; absent = from the experiment's seed")


class Lengths(_Section):
    """Prompt and output lengths: two independent distributions, or pairs drawn together from a trace."""

    prompt: LengthDistribution | None = Field(default=None, description="distribution of prompt lengths, tokens")
    output: LengthDistribution | None = Field(default=None, description="distribution of output lengths, tokens")
    trace: TraceSource | None = Field(
        default=None, description="empirical: (prompt, output) pairs drawn with replacement from this trace's successful requests"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Lengths:
        if self.trace is None and (self.prompt is None or self.output is None):
            raise ValueError("lengths need both 'prompt' and 'output', or a 'trace' to draw pairs from")
        if self.trace is not None and (self.prompt is not None or self.output is not None):
            raise ValueError("lengths take either 'trace' or 'prompt' and 'output', not both")
        return self


class ClosedLoop(_Section):
    """A fixed number of clients; each sends its next request when its last one has ended."""

    concurrency: int = Field(ge=1, le=MOST_REQUESTS, description="clients, each with one request under way")
    think_s: float = Field(
        default=0.0, ge=0, le=MOST_S, allow_inf_nan=False, description="pause of a client between an answer and its next request, seconds"
    )


class SloClassRule(_Section):
    """Gives requests an SLO class: those with a label, or a random fraction of the rows that no label rule takes."""

    name: str = Field(min_length=1, description="name of the SLO class, as under slo.classes")
    model: str | tuple[str, ...] | None = Field(default=None, description="requests with this model label (or one of these)")
    log_type: str | tuple[str, ...] | None = Field(default=None, description="requests with this log type (or one of these)")
    fraction: float | None = Field(default=None, gt=0, le=1, description="random fraction of the requests that no label rule takes")
    priority: int | None = Field(
        default=None, ge=-MOST_EXACT, le=MOST_EXACT, description="priority of these requests; larger is more urgent"
    )

    @model_validator(mode="after")
    def _one_criterion(self) -> SloClassRule:
        if (self.fraction is None) == (self.model is None and self.log_type is None):
            raise ValueError("an SLO class is assigned either by label (model, log_type) or by fraction")
        return self


class WorkloadConfig(_Section):
    """What is asked of the cluster: a trace, a synthetic BurstGPT, or generated requests; and how they are released."""

    trace: TraceSource | None = Field(default=None, description="replay a recorded trace")
    burstgpt_like: BurstGptLikeSource | None = Field(default=None, description="replay a synthetic BurstGPT")
    arrivals: Arrivals | None = Field(default=None, description="arrival process; with a trace it replaces the trace's arrival times")
    lengths: Lengths | None = Field(
        default=None, description="lengths of generated requests; with a trace they replace the trace's lengths"
    )
    count: int | None = Field(default=None, ge=1, le=MOST_REQUESTS, description="number of generated requests")
    duration_s: float | None = Field(
        default=None, gt=0, le=MOST_S, allow_inf_nan=False, description="generate arrivals for this long, seconds"
    )
    closed_loop: ClosedLoop | None = Field(
        default=None, description="ignore arrival times: a fixed number of clients keeps the cluster busy"
    )
    max_concurrency: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="open arrivals under a cap: at most so many requests under way; one whose time has come waits at the client, first"
        " come, first served, until another ends, and its latencies count from when it is sent. Absent = no cap",
    )
    slo_classes: tuple[SloClassRule, ...] = Field(default=(), description="SLO class (and priority) of the requests; others are 'default'")
    priority: int | None = Field(
        default=None,
        ge=-MOST_EXACT,
        le=MOST_EXACT,
        description="priority of every request that no slo_classes rule gives one; larger is more urgent",
    )
    patience_s: float | None = Field(
        default=None,
        ge=0,
        le=MOST_S,
        allow_inf_nan=False,
        description="seconds after its release at which the client of a request gives up and the request is cancelled; where the trace"
        " states it, the trace is believed. Absent = they wait as long as it takes",
    )
    max_output_tokens: int | Literal["output"] | None = Field(
        default=None,
        description="output limit the clients state, tokens; 'output' = exactly what they will get; absent = as the trace says, or none",
    )

    @model_validator(mode="after")
    def _makes_requests(self) -> WorkloadConfig:
        if self.trace is not None and self.burstgpt_like is not None:
            raise ValueError("a workload has one source: 'trace' or 'burstgpt_like', not both")
        if self.trace is None and self.burstgpt_like is None:
            if self.lengths is None:
                raise ValueError("a workload needs a 'trace', a 'burstgpt_like' or 'lengths'")
            if self.closed_loop is None and self.arrivals is None:
                raise ValueError("generated requests need 'arrivals' or a 'closed_loop'")
            if self.count is None and (self.duration_s is None or self.arrivals is None):
                raise ValueError("generated requests need a 'count' (or a 'duration_s' of arrivals)")
        elif self.count is not None or (self.duration_s is not None and self.arrivals is None):
            raise ValueError("the number of requests comes from the source: use its 'limit', 'resample' or its own 'duration_s'")
        if self.max_concurrency is not None and self.closed_loop is not None:
            raise ValueError(
                "max_concurrency caps arrivals, a closed_loop has none: its own 'concurrency' is the number of requests under way"
            )
        if isinstance(self.max_output_tokens, int) and self.max_output_tokens < 1:
            raise ValueError("max_output_tokens must be at least 1")
        if isinstance(self.max_output_tokens, int) and self.max_output_tokens > MOST_TOKENS:
            raise ValueError(f"max_output_tokens must be at most {MOST_TOKENS:,}")
        if self.duration_s is not None and self.arrivals is not None and self.count is None:
            expected = self.arrivals.mean_rate_per_s() * self.duration_s
            if expected > MOST_REQUESTS:
                raise ValueError(f"about {expected:,.0f} requests arrive within duration_s; at most {MOST_REQUESTS:,} are simulated")
        fractions = sum(rule.fraction or 0.0 for rule in self.slo_classes)
        if fractions > 1.0 + 1e-9:
            raise ValueError(f"the fractions of slo_classes add up to {fractions:g}, more than 1")
        return self


def build_workload(config: WorkloadConfig, base_dir: Path, seed: int) -> Workload:
    """The requests of the section, the same for the same seed. `base_dir` is the folder that trace paths are relative to.

    Raises TraceError for a trace that is missing, broken or left empty; ConfigError for options that do not go together.
    """
    arrival_rng, length_rng, class_rng, trace_seed = random_streams(seed)
    if config.trace is not None:
        table = _read(config.trace, base_dir, trace_seed)
    elif config.burstgpt_like is not None:
        table = _burstgpt_like(config.burstgpt_like, seed, trace_seed)
    else:
        table = _generated(config, arrival_rng)
    if config.lengths is not None:
        table = _with_lengths(table, config.lengths, base_dir, trace_seed, length_rng)
    from_source = config.trace is not None or config.burstgpt_like is not None
    if from_source and config.arrivals is not None:
        table = _with_arrivals(table, config, arrival_rng)
    elif config.closed_loop is None and not table.provenance.get("has_arrivals", True):
        raise ConfigError(
            "workload: the trace has lengths only; give it 'arrivals' (e.g. {kind: poisson, rate_per_s: 1}) or a 'closed_loop'"
        )
    if config.closed_loop is not None and bool(np.any(table.after >= 0)):
        raise ConfigError("workload: closed_loop and requests that wait for another (sessions: dependent) exclude each other")
    table = finished(table, config, class_rng)
    if config.closed_loop is None:
        return Workload(table, max_concurrency=config.max_concurrency)
    return Workload(table, config.closed_loop.concurrency, config.closed_loop.think_s)


def random_streams(seed: int) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator, int]:
    """What arrivals, lengths and classes are drawn from, and the seed of a trace's options."""
    streams = np.random.SeedSequence(seed).spawn(4)
    arrivals, lengths, classes = (np.random.default_rng(s) for s in streams[:3])
    return arrivals, lengths, classes, int(streams[3].generate_state(1, np.uint64)[0])


def finished(table: RequestTable, config: WorkloadConfig, class_rng: np.random.Generator) -> RequestTable:
    """The table with classes, limits and patience."""
    table = _classified(table, config, class_rng)
    if config.max_output_tokens is not None:
        limit = (
            table.output_tokens if config.max_output_tokens == "output" else np.full(len(table), config.max_output_tokens, dtype=np.int64)
        )
        output = np.minimum(table.output_tokens, limit)  # the serving engine stops there
        table = replace(table, max_output_tokens=limit, output_tokens=output)
    if config.patience_s is not None:
        stated = table.column("patience_s")
        patience_s = np.full(len(table), np.nan) if stated is None else np.asarray(stated)
        patience_s = np.where(np.isnan(patience_s), config.patience_s, patience_s)
        table = replace(table, others={**table.others, "patience_s": patience_s})
    return table


def find_trace_file(path: str, base_dir: Path) -> Path:
    """The file a trace path means. Raises TraceError with the nearest bundled name when there is none."""
    for folder in (base_dir, Path.cwd()):
        if (folder / path).exists():
            return folder / path
    if "/" in path and not path.startswith("traces/"):
        raise TraceError(f"{path}: no such trace file (looked from {base_dir} and from the current directory)")
    from simserve.resources import find_trace

    return find_trace(path)


def shaping_of(source: TraceSource | BurstGptLikeSource) -> Shaping:
    """What is made of a trace."""
    return Shaping(**{name: getattr(source, name) for name in Shaping.model_fields})


def _read(source: TraceSource, base_dir: Path, seed: int) -> RequestTable:
    from simserve.workload.trace import read_trace

    return read_trace(
        find_trace_file(source.path, base_dir),
        source.format,
        options=shaping_of(source),
        seed=seed,
        time_unit=source.time_unit,
        block_tokens=source.block_tokens,
    )


def _burstgpt_like(source: BurstGptLikeSource, seed: int, trace_seed: int) -> RequestTable:
    from simserve.workload.generators.burstgpt import burstgpt_like
    from simserve.workload.generators.burstgpt.sessions import source_elapsed_s

    table = burstgpt_like(
        source.days,
        seed if source.seed is None else source.seed,
        source.start_day,
        conversations=source.conversations,
        api=source.api,
        failures=source.failures,
        sessions=source.multi_turn,
        prefix_block_tokens=source.prefix_block_tokens,
    )
    assert table.label_model is not None
    elapsed_s = source_elapsed_s(table.label_model.codes.astype(np.int64), table.output_tokens)
    return shape(replace(table, elapsed_s=elapsed_s), shaping_of(source), trace_seed, "workload.burstgpt_like")


def _generated(config: WorkloadConfig, rng: np.random.Generator) -> RequestTable:
    if config.arrivals is None:
        arrival = np.zeros(config.count or 0)
    else:
        arrival = arrival_times(config.arrivals, rng, count=config.count, duration_s=config.duration_s)
    if len(arrival) == 0:
        raise ConfigError("workload: no request arrives within duration_s; make it longer or the rate higher")
    ones = np.ones(len(arrival), dtype=np.int64)
    return RequestTable.build(arrival, ones, ones, provenance=generated(config, len(arrival)))


def generated(config: WorkloadConfig, rows: int) -> dict[str, Any]:
    """The provenance of so many generated requests."""
    options = config.model_dump(mode="json", exclude_none=True, include={"arrivals", "lengths", "count", "duration_s"})
    return {"source": "generated", "rows": rows, "options": options}


def _with_lengths(table: RequestTable, lengths: Lengths, base_dir: Path, trace_seed: int, rng: np.random.Generator) -> RequestTable:
    """Other lengths for every row (failed ones included: the failure belonged to the old request)."""
    n = len(table)
    if lengths.trace is not None:
        pool = _read(lengths.trace, base_dir, trace_seed)
        usable = np.flatnonzero(pool.output_tokens > 0)
        if len(usable) == 0:
            raise ConfigError(f"workload.lengths.trace: {lengths.trace.path} has no successful request to draw lengths from")
        rows = usable[rng.integers(0, len(usable), n)]
        prompt, output = pool.prompt_tokens[rows], pool.output_tokens[rows]
    else:
        assert lengths.prompt is not None and lengths.output is not None
        prompt, output = lengths.prompt.sample(rng, n), lengths.output.sample(rng, n)
    # Block identities belong to the old prompts, answer times to the old requests.
    return replace(table, prompt_tokens=prompt, output_tokens=output, prefix=None, elapsed_s=None)


def _with_arrivals(table: RequestTable, config: WorkloadConfig, rng: np.random.Generator) -> RequestTable:
    """New arrival times for the rows that have one, in their order. Rows beyond duration_s are left out."""
    assert config.arrivals is not None
    own = np.flatnonzero(table.after < 0)
    arrival = table.arrival_s.copy()
    arrival[own] = arrival_times(config.arrivals, rng, count=len(own))
    table = replace(
        table, arrival_s=arrival, provenance={**table.provenance, "has_arrivals": True, "arrivals": config.arrivals.model_dump(mode="json")}
    )
    if config.duration_s is None:
        return table
    return shape(table, Shaping(duration_s=config.duration_s), 0, "workload.arrivals")


def _classified(table: RequestTable, config: WorkloadConfig, rng: np.random.Generator) -> RequestTable:
    """SLO classes and priorities: label rules first (the first that fits), then fractions of what is left."""
    priority = table.priority if config.priority is None else np.full(len(table), config.priority, dtype=np.int64)
    if not config.slo_classes:
        return replace(table, priority=priority)
    names = list(dict.fromkeys((*table.slo_class.names, *(rule.name for rule in config.slo_classes))))
    codes = table.slo_class.codes.astype(np.int16)
    priority = priority.copy()
    free = np.ones(len(table), dtype=bool)
    draw = rng.random(len(table))
    below = 0.0
    for rule in sorted(config.slo_classes, key=lambda r: r.fraction is not None):
        if rule.fraction is not None:
            chosen = free & (draw >= below) & (draw < below + rule.fraction)
            below += rule.fraction
        else:
            chosen = free.copy()
            for key, value, labels in (("model", rule.model, table.label_model), ("log_type", rule.log_type, table.log_type)):
                if value is not None:
                    chosen &= rows_with_label(
                        labels, key, (value,) if isinstance(value, str) else value, f"workload.slo_classes '{rule.name}'"
                    )
            free &= ~chosen
        codes[chosen] = names.index(rule.name)
        if rule.priority is not None:
            priority[chosen] = rule.priority
    return replace(table, slo_class=Labels(codes, tuple(names)), priority=priority)
