"""One measured run of a real engine: what was served, on what, how requests came, and what was measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from simserve.validation import names

LengthKind = Literal["fixed", "uniform", "varied", "lognormal"]
LoadKind = Literal["closed", "open", "burst", "replay", "repeated", "phases"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of requests: `fixed` at `mean`, `uniform` on [2 mean - high, high], `varied` (normal, standard deviation =
    `spread` x mean) or `lognormal` with that mean and `spread` = sigma, none above `high` where it is not 0."""

    mean: float
    kind: LengthKind = "fixed"
    high: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Ramp:
    """A rate that changes while requests come, from `start_per_s` to `end_per_s` requests per second.

    linear, exponential  over the requests: the gap before request i of n is that of the rate (i / (n - 1)) of the way
    seconds              linear over `duration_s` seconds, `end_per_s` from then on
    """

    kind: Literal["linear", "exponential", "seconds"]
    start_per_s: float
    end_per_s: float
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How open arrivals differ from Poisson arrivals at one rate.

    burstiness    shape of gamma-distributed gaps: 1 = Poisson, below 1 = bursty, infinity = equal gaps
    ramp          the rate changes
    exact_rate    gaps are scaled so that n requests come in n / rate seconds; otherwise they take as long as drawn
    first_at_once  so many requests come at the start, the process begins behind them
    """

    burstiness: float = 1.0
    ramp: Ramp | None = None
    exact_rate: bool = False
    first_at_once: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """How requests reach the engine.

    closed    `concurrency` clients, each sends its next request when the last one has ended; `requests` in all; with
              `distinct_prompts`, the prompts are so many texts asked over and over
    open      Poisson arrivals at `rate_per_s`, or as `arrivals` says; `requests` in all; with a `concurrency`, at most so many are under
              way: one whose time has come waits at the client, and its latency counts from when it is sent
    burst     all `requests` at once
    replay    exactly `arrival_s`, `prompts`, `outputs`
    repeated  open, and the prompts are `distinct_prompts` texts asked over and over
    later_stages  of open and repeated: further (rate_per_s, requests) that follow, all measured together
    phases    no traffic: one batch of `concurrency` prompts, then decode steps
    shared_prefix_fraction  of each prompt, its beginning, is the same in all of them; the rest of each is its own
    warm_up_fraction, cool_down_fraction  fractions of the requests, first and last, that load the engine and are not measured
    """

    kind: LoadKind
    prompt: Lengths
    output: Lengths
    requests: int = 0
    concurrency: int = 0
    rate_per_s: float = 0.0
    distinct_prompts: int = 0
    later_stages: tuple[tuple[float, int], ...] = ()
    arrival_s: tuple[float, ...] = ()
    prompts: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    arrivals: Arrivals | None = None
    warm_up_fraction: float = 0.0
    cool_down_fraction: float = 0.0
    shared_prefix_fraction: float = 0.0


_ABSENT = {"arrivals": None, "shared_prefix_fraction": 0.0, "warm_up_fraction": 0.0, "cool_down_fraction": 0.0}
"""What the description of a load leaves out where it does not apply."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one kind in a disaggregated run: `workers` instances, each laid out by tp, dp and ep, with at most `max_seqs` requests
    (None = the engine's default)."""

    workers: int
    tp: int
    dp: int = 1
    ep: int = 1
    max_seqs: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A row (or several rows of one run) of a measurement file.

    dataset    the file's name without suffix
    label      names the row for people
    run        rows with equal `run` are never separated by the fit/check split
    engine     as the file spells it; `profile` is the engine profile that imitates it
    gpu        hardware profile; `model` is a bundled name or Hugging Face id, `quantisation` overrides its weights' format
    settings   what the run stated, in simserve's words: of the scheduler (max_seqs, max_num_batched_tokens, chunked_prefill_size, policy,
               batch_wait_steps and batch_wait_fraction, balance_wait_steps), of the memory (memory_utilisation, kv_blocks of all
               layers, block_tokens, kv_bits, prefix_caching), of the host (cuda_graphs, largest_graph, graph_sizes, whole_graphs, offline,
               clock, host_cores: CPU cores of the server where they are fewer than its processes), of the kernels (expert_kernel,
               expert_popularity, as in `CostOptions`), of drafting
               (speculation: method, tokens, top_k, verify_tokens, rate or length of acceptance), prompt_slowdown of a power-capped device;
               `client` marks a result of a benchmark client, `lacks` says what of it was not understood
    measured   metric -> value, seconds or tokens per second (see `metrics.METRICS`)
    pools      the prefill workers and the decode workers of a disaggregated run, whose own layout is then not tp, pp, dp, ep
    rows       rows of the file that this case stands for
    skip       why it cannot be simulated; empty = it can
    """

    dataset: str
    label: str
    run: str
    engine: str
    version: str
    profile: str
    gpu: str
    model: str
    load: Load
    measured: dict[str, float]
    quantisation: str | None = None
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    pools: tuple[Pool, Pool] | None = None
    rows: int = 1
    skip: str = ""

    def description(self) -> dict[str, Any]:
        """What determines the prediction: everything but the measured values and the names."""
        all_fields = asdict(self)
        for name in ("dataset", "run", "measured", "rows", "skip", "engine", "version"):
            del all_fields[name]
        for name, absent in _ABSENT.items():
            if all_fields["load"][name] == absent:
                del all_fields["load"][name]
        return all_fields

    def seed(self) -> int:
        """A seed of the row's own, the same on every machine, however the file spells the format of the weights.

        Of a result of a benchmark client it depends on what is drawn alone: the same requests come at the same times whatever the file is
        called and whether or not the client capped its concurrency.
        """
        described = self.description()
        described["model"], described["quantisation"] = names.stated_apart(self.model, self.quantisation)
        if self.settings.get("client"):
            described = {name: described["load"].get(name) for name in ("prompt", "output", "requests", "rate_per_s", "arrivals")}
        text = json.dumps(described, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
