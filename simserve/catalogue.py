"""The metrics of a run: names, units, which way is better, what may carry an SLO. Stated here and nowhere else.

Columns of requests, statistics, tables, plots, SLO targets, quantities of studies, intervals and Parquet columns follow from these values
(docs/architecture.md, "Where a new thing goes"); docs/metrics.md has the formulas, and a test holds it against this
page. Values are computed elsewhere: latencies of requests in `report/columns.py`, figures in the part of `report` that their path names.

Installed packages add latencies of requests through the entry-point group `simserve.metrics`: each entry is a `Metric` with its formula.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from simserve import plugins
from simserve.errors import ConfigError

Better = Literal["higher", "lower"]

BY_CLASS = "<class>"
"""In the path of a figure: the name of an SLO class, or "all"."""

GROUP = "simserve.metrics"

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """A latency with a distribution, over requests or over tokens.

    name      its key in summary.json and its column in requests.parquet; ends in its unit (`_s`, `_s_per_token`)
    quantity  in predicates and sweeps: `ttft` in `ttft.p99`
    label     in tables
    axis      on the axis of a plot
    title     of its plot, without what it is over
    meaning   its definition in the metadata of requests.parquet
    target    what the SLO target of this name says in the reference of the experiment; "" where it carries none
    unit      "s" or "s/token"
    over      what its distribution is over; an emission: the tokens of a request that one step gave it, as a client sees them come
    headline  it is shown where there is space for few: bands in tables, classes in a comparison
    banded    it has a band in `intervals`
    formula   (RunRecords, TokenGaps) -> seconds, one a request, NaN where it is not defined. None: `report/columns.py` has it
    speculative  only results of runs with speculative decoding have it
    """

    name: str
    quantity: str
    label: str
    axis: str
    title: str
    meaning: str
    target: str = ""
    unit: Literal["s", "s/token"] = "s"
    over: Literal["request", "token", "emission"] = "request"
    better: Better = "lower"
    headline: bool = False
    banded: bool = False
    formula: Callable[[Any, Any], Any] | None = None
    speculative: bool = False

    @property
    def unit_in_names(self) -> str:
        """The unit as names of columns end in it: `s_per_token`."""
        return self.unit.replace("/", "_per_")

    @property
    def more_is_worse(self) -> bool:
        """Whether a larger value is the worse one."""
        return self.better == "lower"


@dataclass(frozen=True, slots=True)
class Target:
    """A key of the `slo` section: its name and what it says there."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a run without a distribution.

    column    in the tables of studies, with its unit
    better    which way is
    quantity  in predicates and sweeps; "" where studies do not know it
    path      where it lies in summary.json, or () where `study/quantities.py` computes it from the run
    label     in tables; "" where they do not show it
    unit      in tables: "%" is a fraction shown as per cent
    judged    comparisons call a change better or worse
    banded    it has a band in `intervals`
    speculative  only results of runs with speculative decoding have it
    scaled    comparisons show it where a run scales; the tables of a run say it in the words of `report/scaling`
    """

    column: str
    better: Better
    quantity: str = ""
    path: tuple[str, ...] = ()
    label: str = ""
    unit: str = ""
    judged: bool = True
    banded: bool = False
    speculative: bool = False
    scaled: bool = False

    @property
    def by_class(self) -> bool:
        """Whether it exists for each SLO class."""
        return BY_CLASS in self.path

    def path_of(self, slo_class: str) -> tuple[str, ...]:
        """Where it lies for a class ("all": for all requests)."""
        return tuple(slo_class if key == BY_CLASS else key for key in self.path)


_OWN: tuple[Metric, ...] = (
    Metric(
        "ttft_s", "ttft", "TTFT", "TTFT", "Time to first token (TTFT)",
        "time to first token: first_token_s - released_s", "Time to first token, seconds.",
        headline=True, banded=True,
    ),
    Metric(
        "itl_s", "itl", "ITL", "ITL", "Inter-token latency (ITL)",
        "gap between two consecutive tokens",
        over="token", headline=True, banded=True,
    ),
    Metric(
        "tpot_s", "tpot", "TPOT", "TPOT", "Time per output token (TPOT)",
        "time per output token: (finish_s - first_token_s) / (generated_tokens - 1)",
        "Mean time per output token after the first, of one request, seconds.",
        headline=True, banded=True,
    ),
    Metric(
        "e2e_s", "e2e", "E2E", "E2E", "End to end (E2E)",
        "end to end: finish_s - released_s", "Arrival to last token, seconds.",
        headline=True, banded=True,
    ),
    Metric(
        "normalized_latency_s_per_token", "normalized_latency", "Normalised", "normalised latency per token",
        "Normalised latency (E2E per output token)",
        "e2e_s / generated_tokens", "Arrival to last token, divided by the output tokens.",
        unit="s/token", banded=True,
    ),
    Metric(
        "queueing_s", "queueing", "Queueing", "queueing", "Queueing until the first step",
        "scheduled_s - released_s", "Arrival to the first step that works on the request, seconds.",
    ),
    Metric(
        "itl_max_s", "itl_longest", "Longest ITL", "longest gap", "Longest gap between two tokens",
        "longest gap between two of its tokens", "Longest gap between two tokens of the request, seconds.",
    ),
    Metric(
        "itl_emission_s", "itl_emission", "ITL per emission", "ITL per emission", "Gap between two steps that gave a request tokens",
        "gap between two consecutive steps that gave the request tokens",
        over="emission", speculative=True,
    ),
)  # fmt: skip
"""In the order of tables and files. New ones go to the end: columns of requests.parquet keep their places."""

_FIRST_TARGETS: tuple[str | Target, ...] = (
    "ttft_s",
    Target("ttft_s_per_prompt_token", "Time to first token, seconds for each token of the request's prompt."),
    "tpot_s",
    "e2e_s",
    "queueing_s",
    "normalized_latency_s_per_token",
    Target("itl_p90_s", "90th percentile of the gaps between the request's tokens, seconds."),
    Target("itl_p95_s", "95th percentile of those gaps."),
    Target("itl_p99_s", "99th percentile of those gaps."),
    "itl_max_s",
    Target("itl_ema16_s", "Highest exponential moving average of those gaps over a span of 16 tokens, seconds."),
)
"""The order of the `slo` section: metrics by name, and targets that are not a metric themselves. Further metrics follow."""

FIGURES: tuple[Figure, ...] = (
    Figure("attainment", "higher", "attainment", ("slo", BY_CLASS, "attainment"), "SLO attainment", "%", banded=True),
    Figure("goodput_per_s", "higher", "goodput", ("slo", BY_CLASS, "goodput_per_s"), "Goodput (met the SLO)", "/s", banded=True),
    Figure("arrivals_per_s", "higher", "arrivals", ("throughput", "arrivals_per_s")),
    Figure("arrival_period_s", "higher", "arrivals.period"),
    Figure(
        "requests_per_s", "higher", "throughput.requests", ("throughput", "requests_per_s"), "Requests finished", "/s", banded=True
    ),
    Figure(
        "output_tokens_per_s", "higher", "throughput.output_tokens", ("throughput", "output_tokens_per_s"), "Output tokens", "/s",
        banded=True,
    ),
    Figure(
        "total_tokens_per_s", "higher", "throughput.total_tokens", ("throughput", "total_tokens_per_s"), "All tokens", "/s", banded=True
    ),
    Figure("requests", "higher", "requests", ("requests", "total")),
    Figure("measured_requests", "higher", "measured", ("latency", BY_CLASS, "e2e_s", "count")),
    Figure("completed_fraction", "higher", "completed"),
    Figure("rejected", "lower", "rejected", ("requests", "rejected")),
    Figure("failed", "lower", "failed", ("requests", "failed")),
    Figure("failed_in_trace", "lower", "failed.in_trace"),
    Figure("cancelled", "lower", "cancelled", ("requests", "cancelled")),
    Figure("unfinished", "lower", "unfinished", ("requests", "unfinished")),
    Figure("saturated", "lower", "saturated", ("saturation", "saturated")),
    Figure("waiting_mean", "lower", "queue.mean", ("queue", "waiting_mean"), "Waiting requests, mean"),
    Figure("waiting_max", "lower", "queue.max", ("queue", "waiting_max"), "Waiting requests, max"),
    Figure("in_system_max", "lower", "in_system.max", ("queue", "in_system_max")),
    Figure("preemptions", "lower", "preemptions", ("preemption", "preemptions"), "Preemptions"),
    Figure("busy_fraction", "lower", "busy", ("utilisation", "busy_fraction"), "Busy", "%", judged=False),
    Figure(
        "compute_utilisation", "higher", "compute", ("utilisation", "compute_utilisation"), "Compute utilisation", "%", judged=False
    ),
    Figure(
        "batch_requests_mean", "higher", "batch.mean", ("utilisation", "batch_requests_mean"), "Requests in a step, mean", judged=False
    ),
    Figure("kv_used_mean", "lower", "kv_used.mean", ("utilisation", "kv_used_mean"), "KV cache in use, mean", "%", judged=False),
    Figure("kv_used_max", "lower", "kv_used.max", ("utilisation", "kv_used_max"), "KV cache in use, max", "%", judged=False),
    Figure("hit_rate", "higher", "", ("prefix_cache", "hit_rate"), "Prefix cache hit rate", "%"),
    Figure(
        "joules_per_output_token", "lower", "energy.per_output_token", ("energy", "joules_per_output_token"), "Energy per output token", "J"
    ),
    Figure("joules_per_token", "lower", "energy.per_token", ("energy", "joules_per_token")),
    Figure("mean_power_w", "lower", "", ("energy", "mean_power_w"), "Power, mean", "W", judged=False),
    Figure(
        "kwh_per_million_output_tokens", "lower", "energy.kwh_per_million_output_tokens", ("energy", "kwh_per_million_output_tokens"),
        "Energy per million output tokens", "kWh",
    ),
    Figure(
        "kwh_per_million_input_tokens", "lower", "energy.kwh_per_million_input_tokens", ("energy", "kwh_per_million_input_tokens")
    ),
    Figure(
        "gco2_per_million_output_tokens", "lower", "energy.gco2_per_million_output_tokens", ("energy", "gco2_per_million_output_tokens"),
        "CO2 per million output tokens", "g",
    ),
    Figure("usd_per_hour", "lower", "usd.per_hour", ("money", "usd_per_hour"), "Price of an hour", "USD"),
    Figure(
        "usd_per_million_output_tokens", "lower", "usd.per_million_output_tokens", ("money", "usd_per_million_output_tokens"),
        "Price per million output tokens", "USD",
    ),
    Figure(
        "usd_per_million_input_tokens", "lower", "usd.per_million_input_tokens", ("money", "usd_per_million_input_tokens"),
        "Price per million input tokens", "USD",
    ),
    Figure("usd_per_million_tokens", "lower", "usd.per_million_tokens", ("money", "usd_per_million_tokens")),
    Figure(
        "expert_bytes_per_request", "lower", "experts.per_request", ("experts", "bytes_read_per_request"),
        "Expert weights read per request", "B", judged=False,
    ),
    Figure("instances_mean", "lower", "instances.mean", ("cluster", "instances_mean")),
    Figure("instance_failures", "lower", "failures", ("cluster", "failures")),
    Figure("migrations", "lower", "migrations", ("cluster", "migration", "done")),
    Figure("migration_pause_mean_s", "lower", "migration.pause_mean", ("cluster", "migration", "pause_s", "mean")),
    Figure("migration_pause_max_s", "lower", "migration.pause_max", ("cluster", "migration", "pause_s", "max")),
    Figure("simulated_s", "lower", "simulated", ("window", "run_s")),
    Figure(
        "acceptance_length", "higher", "speculation.acceptance_length", ("speculation", "acceptance_length"),
        "Acceptance length", speculative=True,
    ),
    Figure(
        "tokens_per_step", "higher", "speculation.tokens_per_step", ("speculation", "tokens_per_step"), "Tokens per step of a request",
        speculative=True,
    ),
    Figure(
        "acceptance_rate", "higher", "speculation.acceptance_rate", ("speculation", "acceptance_rate"), "Drafts accepted", "%",
        speculative=True,
    ),
    Figure(
        "drafted_tokens", "lower", "speculation.drafted", ("speculation", "drafted_tokens"), "Drafted tokens", judged=False,
        speculative=True,
    ),
    Figure(
        "accepted_tokens", "higher", "speculation.accepted", ("speculation", "accepted_tokens"), "Accepted tokens", judged=False,
        speculative=True,
    ),
    Figure(
        "wasted_tokens", "lower", "speculation.wasted", ("speculation", "wasted_tokens"), "Wasted tokens", judged=False,
        speculative=True,
    ),
    Figure("usd", "lower", "usd.total", ("money", "usd"), "Price of the run", "USD", scaled=True),
    Figure("device_hours", "lower", "paid.device_hours", ("paid", "device_hours"), "Device-hours paid", "h", scaled=True),
    Figure("idle_device_hours", "lower", "paid.idle", ("paid", "idle_device_hours"), "Device-hours idle", "h", scaled=True),
    Figure(
        "booting_device_hours", "lower", "paid.booting", ("paid", "booting_device_hours"), "Device-hours booting", "h", scaled=True
    ),
    Figure("slo_missed", "lower", "missed", ("slo", BY_CLASS, "missed"), "Missed the SLO", scaled=True),
    Figure("slo_missed_fraction", "lower", "missed.fraction", ("slo", BY_CLASS, "missed_fraction"), "Missed the SLO", "%", scaled=True),
    Figure("cold_requests", "lower", "cold.requests", ("scaling", "cold_requests"), "Waited for a cold start", scaled=True),
    Figure("cold_wait_mean_s", "lower", "cold.wait_mean", ("scaling", "cold_wait_s", "mean"), "Cold-start wait, mean", "s", scaled=True),
    Figure("cold_wait_max_s", "lower", "cold.wait_max", ("scaling", "cold_wait_s", "max"), "Cold-start wait, max", "s", scaled=True),
    Figure("starts", "lower", "starts", ("scaling", "starts"), "Starts of instances", judged=False, scaled=True),
    Figure("nodes_mean", "lower", "nodes.mean", ("scaling", "nodes", "mean"), "Nodes paid for, mean", judged=False, scaled=True),
)  # fmt: skip
"""In the order of the columns of studies."""

_SHOWN = (
    "requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "goodput_per_s", "attainment", "busy_fraction", "compute_utilisation",
    "kv_used_mean", "kv_used_max", "hit_rate", "batch_requests_mean", "joules_per_output_token", "mean_power_w",
    "expert_bytes_per_request", "waiting_mean", "waiting_max", "preemptions", "usd_per_hour", "usd_per_million_output_tokens",
    "usd_per_million_input_tokens", "kwh_per_million_output_tokens", "gco2_per_million_output_tokens",
)  # fmt: skip
"""Figures that tables begin with, by column. Further ones with a label follow."""


_TIMES = {"released_s", "scheduled_s", "first_token_s", "finish_s"}
"""Columns of requests that end like a metric."""


def _checked(words: str, found: Any, known: Iterable[Metric]) -> Metric:
    """What an entry point gave, if it is a metric that stands beside the known ones. Raises ConfigError."""
    problem = ""
    if not isinstance(found, Metric) or found.formula is None or found.over != "request":
        problem = "it must be a simserve.catalogue.Metric over requests with a formula"
    elif not _NAME.fullmatch(found.name) or not found.name.endswith(f"_{found.unit_in_names}"):
        problem = f"its name must be lower case and end in _{found.unit_in_names}"
    elif not _NAME.fullmatch(found.quantity):
        problem = "its quantity must be a lower-case word"
    elif taken := {found.name, found.quantity} & _names(known):
        problem = f"the name '{min(taken)}' is taken"
    if problem:
        raise ConfigError(f"{words}: {problem}")
    assert isinstance(found, Metric)
    return found


def _names(metrics: Iterable[Metric]) -> set[str]:
    """Every name that a further metric must not have."""
    targets = {target.name for target in _FIRST_TARGETS if isinstance(target, Target)}
    figures = {name.split(".")[0] for figure in FIGURES for name in (figure.column, figure.quantity)}
    return {name for metric in metrics for name in (metric.name, metric.quantity)} | targets | figures | _TIMES


def _metrics() -> tuple[Metric, ...]:
    found = list(_OWN)
    for plugin in plugins.found(GROUP).values():
        found.append(_checked(plugin.words, plugin.load(), found))
    return tuple(found)


def _targets() -> Iterator[Target]:
    own = {metric.name: Target(metric.name, metric.target) for metric in METRICS if metric.target}
    for target in _FIRST_TARGETS:
        yield own.pop(target) if isinstance(target, str) else target
    yield from own.values()


METRICS: tuple[Metric, ...] = _metrics()
"""Latencies, in the order of tables and files: simserve's own, then those of installed packages."""

OF_REQUESTS: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric.over == "request")
"""Those with a column in requests.parquet."""

TARGETS: tuple[Target, ...] = tuple(_targets())
"""What an SLO may be stated of, in the order of the `slo` section."""

SHOWN_FIGURES: tuple[Figure, ...] = tuple(
    sorted((figure for figure in FIGURES if figure.label), key=lambda f: _SHOWN.index(f.column) if f.column in _SHOWN else len(_SHOWN))
)
"""Figures of tables, in their order."""


def metric(name: str) -> Metric:
    """The latency of that name; KeyError where there is none."""
    return _BY_NAME[name]


_BY_NAME = {metric.name: metric for metric in METRICS}
