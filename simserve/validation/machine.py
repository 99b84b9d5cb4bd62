"""A case's instance: model, device, layout and engine profile put together as the run states them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simserve.config.deployment import Deployment, host_overheads
from simserve.config.engine_profile import EngineProfile, load_engine, scheduler_defaults
from simserve.config.schema import KvSection
from simserve.contracts import Scheduler
from simserve.cost.draft import Draft
from simserve.cost.host import HostOverheads
from simserve.cost.options import CostOptions
from simserve.engine import InstanceSpec
from simserve.model import Parallel, load_model
from simserve.policies import registry
from simserve.speculation import Same, Schedule, Speculated
from simserve.speculation.acceptance import of_length, of_rate
from simserve.validation import warm_up
from simserve.validation.batch_wait import BatchWait
from simserve.validation.case import Case
from simserve.validation.devices import device_profile

LONGEST_STEP_TOKENS = 32_768
"""Models with longer contexts are served with chunked prefill (vLLM since 0.5.4), which the V0 policy does not do."""

LONGEST_CONTEXT_TOKENS = 40_960
"""Contexts the cost tables cover unless a case needs more."""


@dataclass(frozen=True, slots=True)
class Overheads:
    """The learned part of an engine profile: host work in a step, and work outside the engine per request.

    request_s, request_per_prompt_token_s  HTTP and tokenising before the scheduler sees a request
    request_per_output_token_s  text of a token and its chunk to the client: time of the API servers, where there are any
    request_delay_s  on the way, while no server works
    api_servers  processes that do this work, one request after the other; 0 = it is a delay
    steps_ahead  steps already scheduled beyond the one in progress when a request arrives: it waits for them too
    first_request_s  what each client's first request of a measured run waits beside all this (see `warm_up`); of runs, not of engines
    """

    host: HostOverheads
    request_s: float = 0.0
    request_per_prompt_token_s: float = 0.0
    request_per_output_token_s: float = 0.0
    request_delay_s: float = 0.0
    api_servers: int = 0
    steps_ahead: int = 0
    first_request_s: float = 0.0


def overheads_of(profile: EngineProfile) -> Overheads:
    """What an engine profile states."""
    path = profile.request_path
    return Overheads(
        host_overheads(profile),
        path.per_request_s,
        path.per_prompt_token_s,
        path.per_output_token_s,
        path.delay_s,
        path.api_servers,
        path.steps_ahead,
        warm_up.first_request_s(profile.name),
    )


def without_overheads(overheads: Overheads) -> Overheads:
    """Kernels only: same CUDA graphs, free host."""
    return Overheads(HostOverheads(kernel_launch_s=0.0, cuda_graph_sizes=overheads.host.cuda_graph_sizes))


def build_instance(case: Case, overheads: Overheads | None = None) -> InstanceSpec:
    """The instance of a case; `overheads` replaces the engine profile's.

    Raises SimserveError: an impossible layout, weights that do not fit, settings that the policy refuses.
    """
    profile = load_engine(case.profile)
    overheads = overheads or overheads_of(profile)
    parameters = _scheduler(case, profile)
    scheduler = registry.scheduler_class(_policy(case, profile))
    params = scheduler.Params(**parameters)
    slots = params.max_seqs * case.dp
    budget = params.step_tokens(0)
    if case.dp > 1:
        params = params.model_copy(update=_of_all_replicas(params, case.dp, slots, profile.dp_shares_step_tokens))
    changed = {key: case.settings[key] for key in ("kv_bits", "expert_kernel", "expert_popularity") if case.settings.get(key)}
    deployed = Deployment(
        model=load_model(case.model, quantisation=case.quantisation),
        hardware=device_profile(case.gpu),
        parallel=Parallel(case.tp, case.pp, case.dp, case.ep),
        scheduler=scheduler(params),
        policy=_policy(case, profile),
        engine=profile,
        kv=_kv(case, profile, budget),
        options=CostOptions(**changed),
        host=_host(case, overheads.host),
        max_seqs=slots,
        table_tokens=_context_limit(case),
        activation_tokens=budget // case.dp if profile.dp_shares_step_tokens else budget,
        activation_seqs=min(slots, 256),
        kv_replicas=case.dp,
        draft=_draft(case),
        jitter_seed=case.seed(),
    )
    if deployed.kv.blocks and deployed.kv_groups is not None:  # a run's blocks hold tokens of all layers, those of a pool of some
        blocks = deployed.kv.blocks * deployed.kv_groups.per_block
        deployed = replace(deployed, kv=deployed.kv.model_copy(update={"blocks": blocks}))
    spec = deployed.instance_spec(case.label)
    return replace(
        spec,
        scheduler=_patient(spec.scheduler, case, budget),
        max_model_len=None,  # a run does not state its longest sequence
        request_s=overheads.request_s,
        request_per_prompt_token_s=overheads.request_per_prompt_token_s,
        request_per_output_token_s=overheads.request_per_output_token_s,
        request_delay_s=overheads.request_delay_s,
        api_servers=overheads.api_servers,
        steps_ahead=overheads.steps_ahead,
        speculation=_speculation(case, profile),
    )


def _draft(case: Case) -> Draft | None:
    """What drafts in the run, None where nothing does."""
    told = case.settings.get("speculation")
    return None if told is None else Draft(told["method"], int(told["tokens"]), told.get("top_k", 1), told.get("verify_tokens"))


def _speculation(case: Case, profile: EngineProfile) -> Speculated | None:
    """How many drafted tokens are accepted: each with the probability that the case states, or that follows from a step's mean tokens."""
    told = case.settings.get("speculation")
    if told is None:
        return None
    tokens = int(told["tokens"])
    accepted = Same(of_rate(float(told["rate"]), tokens) if "rate" in told else of_length(float(told["length"]), tokens))
    nodes = told["verify_tokens"] - 1 if told.get("verify_tokens") else None
    return Speculated(
        Schedule(tokens),
        accepted,
        case.seed(),
        nodes=nodes,
        draft_passes=told["method"] != "ngram",
        rejected_kv=profile.speculation.rejected_kv,
    )


def _kv(case: Case, profile: EngineProfile, budget: int) -> KvSection:
    """The KV cache as the run states it: its numbers are judged where they are used."""
    blocks = case.settings.get("kv_blocks") or None
    return KvSection.model_construct(
        blocks=blocks,
        memory_utilisation=None if blocks else _utilisation(case, profile, budget),
        block_tokens=int(case.settings.get("block_tokens", profile.kv.block_tokens)),
        watermark=profile.kv.watermark,
        preemption="recompute",
        prefix_caching=_caches_prefixes(case, profile),
        prefix_match=profile.kv.prefix_match,
        eviction=profile.kv.eviction,
    )


def _caches_prefixes(case: Case, profile: EngineProfile) -> bool:
    """Whether the run's engine looks for KV that it has: where prompts or their beginnings recur, if the run says so. Where none does, as
    it does by default unless the run says otherwise: a request that was preempted finds what is left of its own KV when it comes back."""
    stated = case.settings.get("prefix_caching")
    if case.load.distinct_prompts or case.load.shared_prefix_fraction > 0:
        return bool(stated)
    return profile.kv.prefix_caching if stated is None else bool(stated)


def _of_all_replicas(params: Any, dp: int, slots: int, shared_budget: bool) -> dict[str, int]:
    """Slots and token budget of all attention replicas together: each has its own, unless the engine divides the budget among them."""
    update = {"max_seqs": slots} if "max_seqs" in type(params).model_fields else {}
    for name in ("max_num_batched_tokens", "token_budget", "chunked_prefill_size"):
        value = getattr(params, name, None)
        if value and not shared_budget:
            update[name] = value * dp
    return update


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
        return BatchWait(scheduler, case.settings["batch_wait_steps"], tokens=int(case.settings["batch_wait_fraction"] * budget))
    return scheduler


def _host(case: Case, host: HostOverheads) -> HostOverheads:
    """The host's work, with the graphs that the run states: which sizes, and whether a step of decodes is one graph."""
    piece_s = 0.0 if case.settings.get("whole_graphs") else host.per_graph_piece_s
    return replace(host, cuda_graph_sizes=_graphs(case, host.cuda_graph_sizes), per_graph_piece_s=piece_s)


def _graphs(case: Case, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The batch sizes captured as CUDA graphs: the engine's, none, those that the run states, or up to the largest one that it states
    (every 16 from the engine's own largest)."""
    if not case.settings.get("cuda_graphs", True):
        return ()
    if case.settings.get("graph_sizes"):
        return tuple(sorted(set(case.settings["graph_sizes"])))
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
        parameters.setdefault("max_num_batched_tokens", min(max(2048, load_model(case.model).max_position_embeddings), LONGEST_STEP_TOKENS))
    parameters |= {key: value for key, value in stated.items() if key in fields}
    return parameters


def _policy(case: Case, profile: EngineProfile) -> str:
    policy = case.settings.get("policy") or profile.scheduler.policy
    assert policy is not None  # every bundled profile names one
    return policy


def _context_limit(case: Case) -> int:
    longest = max((case.load.prompt.mean + case.load.output.mean) * 4, *(case.load.prompts or (0,)), 1)
    return LONGEST_CONTEXT_TOKENS if longest <= LONGEST_CONTEXT_TOKENS else 262_144
