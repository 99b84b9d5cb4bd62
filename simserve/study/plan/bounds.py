"""What a plan cannot do, from its cost model alone: bounds that eliminate it before anything is simulated.

Memory: weights and the cache of one sequence must fit. Latency: on an empty instance a first token takes a whole prompt's steps, a
next token a step of one sequence. Capacity: in the fluid limit an instance mixes steps of so many decodes and prompt tokens each, as
it likes; the least time in which some mix serves a second of the load is a linear programme over the steps that its slots, its cache
and its token budget allow,

    min sum(x T(B, C))   such that   sum(x B) >= decode tokens/s, sum(x C) >= prompt tokens/s,   x >= 0 steps/s

and its value the utilisation of one instance: n instances with n below it are overloaded, whatever a short run shows. Contexts are
means (a step's time is linear in them), prompts as long as the mean (attention is convex in them), so both err on the plan's side.
That is of the mean load. Of the very requests of the seeds on which finalists are verified, `bursts` says how many must wait too long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simserve.config.assemble import deployment
from simserve.config.deployment import Deployment
from simserve.config.experiment import Experiment
from simserve.contracts import Slice, Step
from simserve.errors import ConfigError, ModelError, ProfileError
from simserve.model import load_model
from simserve.study.plan.bursts import Prompts, best_in_bursts, first_token_within_s
from simserve.study.plan.offered import Offered
from simserve.study.quantities import LATENCIES, Quantity
from simserve.workload.requests import F64, I64

_LENGTHS = 12
"""Prompt lengths at which the time of a first token is computed; between them it is a line."""

_LATENCY_LIMITS = ("ttft_s", "tpot_s", "e2e_s", "ttft_s_per_prompt_token", "normalized_latency_s_per_token")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a family.

    error   why it cannot be run at all (weights that do not fit, a layout that the engine refuses); "" otherwise. `refused`: the
            experiment itself makes no sense
    demand  instances of each pool that the load keeps busy at best; 0 where the load follows the plan
    best    column -> what no run can better: latencies from below, attainment from above
    prompts  of the seeds on which finalists are verified, as work of the first pool; empty where waiting is not bounded
    within_s  what the SLO allows a first token; None = some request may take any time
    """

    error: str = ""
    demand: tuple[float, ...] = ()
    best: dict[str, float] = field(default_factory=dict)
    refused: bool = False
    prompts: tuple[Prompts, ...] = ()
    within_s: float | None = None

    def overloaded(self, counts: tuple[int, ...], roles: tuple[str, ...]) -> str:
        """Which pool the load overloads however well it is served, in words; "" when none."""
        for count, demand, role in zip(counts, self.demand, roles, strict=True):
            if demand > count:
                what = "" if role == "mixed" else f" {role}"
                return f"overloaded: the load keeps {demand:.3g}{what} instances busy at best, of {count}"
        return ""

    def best_in_bursts(self, counts: tuple[int, ...], wanted: tuple[Quantity, ...]) -> dict[str, float]:
        """Column -> what no mean over the seeds of the verification can better, for what must wait; of figures that bursts bound."""
        return best_in_bursts(self.prompts, counts[0], self.within_s, wanted)

    def utilisation(self, counts: tuple[int, ...]) -> float | None:
        """Of the busiest pool, at best; None where the load follows the plan."""
        if not any(self.demand):
            return None
        return max(demand / count for demand, count in zip(self.demand, counts, strict=True))


def bounds(experiment: Experiment, load: Offered, wanted: tuple[Quantity, ...], fresh: Sequence[Offered] = ()) -> Bounds:
    """Of the family of an experiment that has one instance of each pool. `wanted`: figures of which the best is asked; `fresh`: the load
    on the seeds on which finalists are verified."""
    section = experiment.spec.model_section
    try:
        model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
        pools = [deployment(experiment, group, model) for group in experiment.groups]
        slots = [_slots(pool, load) for pool in pools]
        demand = tuple(_demand(pool, group.role, most, load) for pool, group, most in zip(pools, experiment.groups, slots, strict=True))
        first, last = pools[0], pools[-1]
        best = _best(experiment, load, _first_token_s(first, load), _next_token_s(last, load), wanted)
        return Bounds("", demand, best, False, _prompts(experiment, first, load, fresh), first_token_within_s(experiment, load))
    except (ConfigError, ModelError, ProfileError) as error:
        return Bounds(str(error))


def _prompts(experiment: Experiment, pool: Deployment, load: Offered, fresh: Sequence[Offered]) -> tuple[Prompts, ...]:
    """The prompts of each seed as work of one instance. None where clients wait for answers, where a cache may spare computing them, or
    where not every request is measured."""
    cuts = experiment.spec.metrics
    if load.rate_per_s is None or _spared(pool, load) or cuts.warmup_s or cuts.cooldown_s or experiment.spec.until_s is not None:
        return ()
    lengths = _lengths(load)
    most = (pool.step_tokens or pool.slots * max(1, int(load.prompt_tokens))) * pool.parallel.dp
    least_s = [0.0, *(length * _least_token_s(pool, int(length), most) for length in lengths)]
    found = []
    for one in fresh:
        work_s = np.interp(one.prompt, [0, *lengths], least_s)
        found.append(Prompts(one.arrival_s, np.asarray(work_s, dtype=np.float64), float(_outside_s(pool, one).min())))
    return tuple(found)


def _least_token_s(pool: Deployment, length: int, most: int) -> float:
    """Seconds of a prompt token in the best step of prompts of this length alone, of at most so many tokens (or one prompt)."""
    return min(max(pool.cost.stage_times(Step(0, slices=_slices(tokens, length)))) / tokens for tokens in _grid(max(most, length), 64))


def _slots(pool: Deployment, load: Offered) -> int:
    """Most sequences that decode at once: sequence slots, and what the cache holds of the mean context."""
    tokens = max(1, int(load.decode_context))
    blocks = pool.kv_blocks  # raises where not even a block fits
    if pool.kv.blocks:
        fitting = blocks * pool.block_tokens // tokens
    else:
        fitting = pool.sequences_that_fit(pool.capacity(), tokens)
    return max(1, min(pool.slots, fitting))


def _demand(pool: Deployment, role: str, slots: int, load: Offered) -> float:
    """Utilisation of one instance by the whole load."""
    if load.rate_per_s is None:
        return 0.0
    decode = 0.0 if role == "prefill" else load.rate_per_s * load.decode_tokens / _tokens_a_step(pool)
    prompt = 0.0 if role == "decode" or _spared(pool, load) else load.rate_per_s * load.prompt_tokens
    steps = _steps(pool, role, slots, load)
    return least_time(steps, decode, prompt)


def least_time(steps: F64, decode: float, prompt: float) -> float:
    """Seconds in which some mix of steps, rows of (decodes, prompt tokens, seconds), has so many decode and prompt tokens."""
    from scipy.optimize import linprog

    if not decode and not prompt:
        return 0.0
    found = linprog(steps[:, 2], A_ub=-steps[:, :2].T, b_ub=[-decode, -prompt], bounds=(0, None), method="highs")
    return float(found.fun) if found.success else 0.0


def _steps(pool: Deployment, role: str, slots: int, load: Offered) -> F64:
    """(decodes, prompt tokens, seconds) of the steps that an instance may take. Its stages work on as many micro-batches at once, among
    which they share the slots, so a step occupies it as long as the slowest stage."""
    dp, pp = pool.parallel.dp, pool.parallel.pp
    context = max(1, int(load.decode_context))
    budget = pool.step_tokens or max(1, slots) * max(1, int(load.prompt_tokens))
    decodes = [0] if role == "prefill" else _grid(-(-slots * dp // pp))
    most = max(budget * dp, max(1, int(load.prompt_tokens)))  # policies that never cut a prompt run a longer one alone
    chunks = [0] if role == "decode" else [0, *_grid(most, 64)]
    rows = []
    for sequences in {0, *decodes} if role != "decode" else set(decodes):
        for chunk in chunks:
            tokens = min(chunk, budget * dp - sequences) if sequences else chunk
            if tokens < 0 or (not sequences and tokens <= 0):
                continue
            step = Step(sequences, sequences * context, context if sequences else 0, _slices(tokens, max(1, int(load.prompt_tokens))))
            rows.append((float(sequences), float(max(tokens, 0)), max(pool.cost.stage_times(step))))
    return np.array(sorted(rows))


def _grid(most: int, least: int = 1) -> list[int]:
    """Whole numbers to `most`, each about 1.4 times the one before."""
    steps = max(1, math.ceil(2 * math.log2(max(most, 2) / min(least, most))))
    return sorted({round(most / 2 ** (k / 2)) for k in range(steps + 1)} - {0})


def _slices(tokens: int, length: int) -> list[Slice]:
    """Prompt tokens of a step as prompts of this length, or a chunk in the middle of one."""
    if tokens <= 0:
        return []
    if tokens < length:
        return [Slice(tokens, (length - tokens) // 2)]
    whole, rest = divmod(tokens, length)
    return [Slice(length, 0)] * whole + ([Slice(rest, 0)] if rest else [])


def _tokens_a_step(pool: Deployment) -> float:
    """Most tokens that a step gives a request: one, and with speculation all that are drafted."""
    return 1.0 + (pool.draft.steps if pool.draft is not None else 0)


def _spared(pool: Deployment, load: Offered) -> bool:
    """Whether a prefix cache may spare any part of the prompts."""
    return load.reusable and bool(pool.kv.prefix_caching)


def _lengths(load: Offered) -> I64:
    """Prompt lengths from the shortest to the longest."""
    return np.unique(np.quantile(load.prompt, np.linspace(0, 1, _LENGTHS), method="inverted_cdf")).astype(np.int64)


def _outside_s(pool: Deployment, load: Offered) -> F64:
    """Seconds of each request's first token in which no instance works on it."""
    path = pool.engine.request_path if pool.engine is not None else None
    if path is None:
        return np.zeros(len(load.prompt))
    return np.asarray(path.per_request_s + path.per_prompt_token_s * load.prompt + path.delay_s, dtype=np.float64)


def _first_token_s(pool: Deployment, load: Offered) -> F64:
    """Seconds of each request's first token on an empty instance."""
    outside = _outside_s(pool, load)
    if _spared(pool, load):
        return np.asarray(outside + _alone_s(pool, Step(0, slices=[Slice(1, 0)])), dtype=np.float64)
    lengths = _lengths(load)
    seconds = [_prompt_s(pool, int(length)) for length in lengths]
    return np.asarray(outside + np.interp(load.prompt, lengths, seconds), dtype=np.float64)


def _prompt_s(pool: Deployment, tokens: int) -> float:
    budget = (pool.step_tokens or tokens) * pool.parallel.dp
    chunks = [Slice(min(budget, tokens - start), start) for start in range(0, tokens, budget)]
    return float(sum(_alone_s(pool, Step(0, slices=[chunk])) for chunk in chunks))


def _alone_s(pool: Deployment, step: Step) -> float:
    """Seconds of a step through all stages, which nothing else shares."""
    return float(sum(pool.cost.stage_times(step)))


def _next_token_s(pool: Deployment, load: Offered) -> F64:
    """Seconds of each request's tokens after the first on an empty instance, the mean of one."""
    lengths = _lengths(load)
    seconds = [_alone_s(pool, Step(1, int(length) + 1, int(length) + 1)) for length in lengths]
    return np.asarray(np.interp(load.prompt, lengths, seconds) / _tokens_a_step(pool), dtype=np.float64)


def _best(experiment: Experiment, load: Offered, ttft_s: F64, tpot_s: F64, wanted: tuple[Quantity, ...]) -> dict[str, float]:
    """Column -> the best that is possible, of the figures that follow from first and next tokens."""
    tpot_s = np.where(load.output > 1, tpot_s, np.nan)
    e2e_s = ttft_s + np.where(load.output > 1, tpot_s, 0.0) * (load.output - 1)
    of_request = {
        "ttft_s": ttft_s,
        "tpot_s": tpot_s,
        "e2e_s": e2e_s,
        "ttft_s_per_prompt_token": ttft_s / load.prompt,
        "normalized_latency_s_per_token": e2e_s / load.output,
    }
    names = load.table.slo_class.names
    best: dict[str, float] = {}
    for quantity in wanted:
        rows = np.ones(len(ttft_s), dtype=bool)
        if quantity.slo_class in names:
            rows = load.slo_class == names.index(quantity.slo_class)
        if quantity.name == "attainment":
            best[quantity.column] = _attainment(experiment, load, of_request, rows)
        elif (latency := LATENCIES.get(quantity.name)) is not None and latency.name in of_request and latency.over == "request":
            value = _statistic(of_request[latency.name][rows], quantity.stat)
            if value is not None:
                best[quantity.column] = value
    return best


def _attainment(experiment: Experiment, load: Offered, of_request: dict[str, F64], rows: np.ndarray) -> float:
    names = load.table.slo_class.names
    stated = experiment.spec.slo.by_class(names)
    met = np.ones(len(rows), dtype=bool)
    for number, name in enumerate(names):
        for limit in _LATENCY_LIMITS:
            bound = stated.get(name, {}).get(limit)
            if bound is not None:
                met &= (load.slo_class != number) | ~(of_request[limit] > bound)
    return float(met[rows].mean()) if bool(rows.any()) else 1.0


def _statistic(values: F64, stat: str) -> float | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if stat == "mean":
        return float(known.mean())
    if stat == "max":
        return float(known.max())
    return float(np.quantile(known, float(stat[1:].replace("_", ".")) / 100, method="inverted_cdf"))
