"""A case's instance: model, device, layout and engine profile put together as the run states them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.config.engine_profile import EngineProfile, host_speed, load_engine, scheduler_defaults
from simserve.contracts import Scheduler
from simserve.cost.host import HostOverheads
from simserve.cost.memory import kv_capacity
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.engine import InstanceSpec
from simserve.model import ModelArchitecture, Parallel, load_model
from simserve.policies import registry
from simserve.serving.batch_wait import BatchWait
from simserve.serving.case import Case
from simserve.serving.devices import device_profile

F64 = NDArray[np.float64]

LONGEST_STEP_TOKENS = 32_768
"""Models with longer contexts are served with chunked prefill (vLLM since 0.5.4), which the V0 policy does not do."""

LONGEST_CONTEXT_TOKENS = 40_960
"""Contexts the cost tables cover unless a case needs more."""


@dataclass(frozen=True, slots=True)
class Overheads:
    """The learned part of an engine profile: host work in a step, and time outside the engine per request.

    request_s, request_per_prompt_token_s  HTTP, tokenising and hand-over before the scheduler sees a request, first answer after it
    steps_ahead  steps already scheduled beyond the one in progress when a request arrives: it waits for them too
    """

    host: HostOverheads
    request_s: float = 0.0
    request_per_prompt_token_s: float = 0.0
    steps_ahead: int = 0

    def request_path_s(self, prompt_tokens: F64) -> F64:
        """Seconds outside the engine for prompts of these lengths."""
        return self.request_s + self.request_per_prompt_token_s * prompt_tokens


def overheads_of(profile: EngineProfile) -> Overheads:
    """What an engine profile states."""
    host = HostOverheads(**profile.host.model_dump(), cuda_graph_sizes=tuple(profile.cuda_graph_sizes))
    path = profile.request_path
    return Overheads(host, path.per_request_s, path.per_prompt_token_s, path.steps_ahead)


def without_overheads(overheads: Overheads) -> Overheads:
    """Kernels only: same CUDA graphs, free host."""
    return Overheads(HostOverheads(kernel_launch_s=0.0, cuda_graph_sizes=overheads.host.cuda_graph_sizes))


def build_instance(case: Case, overheads: Overheads | None = None) -> InstanceSpec:
    """The instance of a case; `overheads` replaces the engine profile's.

    Raises SimserveError: an impossible layout, weights that do not fit, settings that the policy refuses.
    """
    profile = load_engine(case.profile)
    overheads = overheads or overheads_of(profile)
    host = replace(overheads.host, cuda_graph_sizes=_graphs(case, overheads.host.cuda_graph_sizes)).on(host_speed(profile, case.gpu))
    parallel = Parallel(case.tp, case.pp, case.dp, case.ep)
    model, hardware = _model(case.model, case.quantisation), device_profile(case.gpu)
    kv_bits = case.settings.get("kv_bits")
    attended_bits = None if model.mla else kv_bits  # no kernel of latent attention reads an fp8 cache: there it only saves memory
    tables = _cost(case.model, case.quantisation, case.gpu, parallel, profile.kernel_backend, _context_limit(case), attended_bits)
    cost = tables.with_host(host)
    parameters = _scheduler(case, profile)
    scheduler = registry.scheduler_class(_policy(case, profile))
    params = scheduler.Params(**parameters)
    seats = params.max_seqs * case.dp
    budget = params.step_tokens(0)
    rank_budget = budget // case.dp if _shares_budget(case) else budget
    block_tokens = int(case.settings.get("block_tokens", profile.kv.block_tokens))
    if case.dp > 1:
        params = params.model_copy(update=_of_all_replicas(params, case, seats))
    blocks = (
        case.settings.get("kv_blocks")
        or case.dp
        * kv_capacity(
            model,
            hardware,
            parallel,
            memory_utilisation=_utilisation(case, profile, budget),
            fraction_of=profile.memory.fraction_of,
            block_tokens=block_tokens,
            max_batched_tokens=rank_budget,
            max_seqs=min(seats, 256),
            kv_dtype_bytes=(kv_bits or 16.0) / 8.0,
        ).blocks
    )
    return InstanceSpec(
        name=case.label,
        scheduler=_patient(scheduler(params), case, budget),
        cost=cost,
        kv_blocks=blocks,
        block_tokens=block_tokens,
        max_seqs=seats,
        watermark_blocks=int(profile.kv.watermark * blocks),
        devices=parallel.devices,
        preemption="recompute",
        prefix_caching=bool(case.settings.get("prefix_caching", False)) and case.load.distinct_prompts > 0,
        policy=_policy(case, profile),
        steps_ahead=overheads.steps_ahead,
    )


def _of_all_replicas(params: Any, case: Case, seats: int) -> dict[str, int]:
    """Seats and token budget of all attention replicas together: each has its own, but SGLang divides its chunk among them
    (server_args.py: chunked_prefill_size // dp_size)."""
    update = {"max_seqs": seats} if "max_seqs" in type(params).model_fields else {}
    for name in ("max_num_batched_tokens", "token_budget", "chunked_prefill_size"):
        value = getattr(params, name, None)
        if value and not _shares_budget(case):
            update[name] = value * case.dp
    return update


def _shares_budget(case: Case) -> bool:
    return case.profile.startswith("sglang")


def _utilisation(case: Case, profile: EngineProfile, budget: int) -> float:
    """The engine's memory fraction: what the run states, or what the engine chooses on this device."""
    stated = case.settings.get("memory_utilisation")
    if stated is not None:
        return float(stated)
    memory = device_profile(case.gpu).device.hbm_bytes
    return profile.fraction(memory, devices=case.tp * case.pp * case.dp, dp=case.dp, step_tokens=budget)


def _patient(scheduler: Scheduler, case: Case, budget: int) -> Scheduler:
    """The policy, holding newcomers back where the run states that (see `BatchWait`)."""
    if "balance_wait_steps" in case.settings and case.dp > 1:
        one_each = round(case.dp * sum(1.0 / k for k in range(1, case.dp + 1)))  # newcomers until every replica has got one, on average
        return BatchWait(scheduler, case.settings["balance_wait_steps"], requests=one_each)
    if "batch_wait_steps" in case.settings:
        return BatchWait(scheduler, case.settings["batch_wait_steps"], tokens=int(case.settings["batch_wait_share"] * budget))
    return scheduler


def _graphs(case: Case, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The batch sizes captured as CUDA graphs: the engine's, none, or up to the largest one that the run states (every 16 from the
    engine's own largest)."""
    if not case.settings.get("cuda_graphs", True):
        return ()
    largest = case.settings.get("largest_graph")
    if largest is None or not sizes:
        return sizes
    kept = [size for size in (*sizes, *range(sizes[-1] + 16, largest, 16)) if size < largest]
    return (*kept, largest)


def _scheduler(case: Case, profile: EngineProfile) -> dict[str, Any]:
    """The policy's parameters: the engine's defaults on this device, then what the run states."""
    fields = registry.scheduler_class(_policy(case, profile)).Params.model_fields
    defaults = scheduler_defaults(profile, case.gpu, device_profile(case.gpu).device.hbm_bytes)
    parameters = {key: value for key, value in defaults.items() if key in fields}
    own_words = ("max_seqs", "max_num_batched_tokens", "chunked_prefill_size")
    stated: dict[str, Any] = {key: case.settings[key] for key in own_words if key in case.settings}
    for own in ("token_budget", "chunked_prefill_size"):
        if own in fields and "max_num_batched_tokens" in stated:
            stated[own] = stated.pop("max_num_batched_tokens")
    if "longer_prompts" in fields:
        parameters["longer_prompts"] = "run"  # the run was served, so its launch allowed for its prompts whether it says so or not
    if "max_num_batched_tokens" in fields and not fields["max_num_batched_tokens"].default:
        # vLLM V0 without chunked prefill: a step must be able to hold the longest sequence, and the engine sets its limit so.
        parameters.setdefault(
            "max_num_batched_tokens", min(max(2048, _model(case.model, None).max_position_embeddings), LONGEST_STEP_TOKENS)
        )
    parameters |= {key: value for key, value in stated.items() if key in fields}
    return parameters


def _policy(case: Case, profile: EngineProfile) -> str:
    policy = case.settings.get("policy") or profile.scheduler.policy
    assert policy is not None  # every bundled profile names one
    return policy


def _context_limit(case: Case) -> int:
    longest = max((case.load.prompt.mean + case.load.output.mean) * 4, *(case.load.prompts or (0,)), 1)
    return LONGEST_CONTEXT_TOKENS if longest <= LONGEST_CONTEXT_TOKENS else 262_144


@lru_cache(maxsize=64)
def _model(name: str, quantisation: str | None) -> ModelArchitecture:
    return load_model(name, quantisation=quantisation)


@lru_cache(maxsize=6)
def _cost(
    model: str, quantisation: str | None, gpu: str, parallel: Parallel, backend: str | None, context_tokens: int, kv_bits: float | None
) -> StepCost:
    options = CostOptions(kv_bits=kv_bits) if kv_bits else None
    return StepCost(
        _model(model, quantisation),
        device_profile(gpu),
        None,
        parallel,
        backend=backend,
        max_context_tokens=context_tokens,
        options=options,
    )
