"""From an experiment to the objects the engine runs: requests, instances with their policies and cost models, router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.config import messages
from simserve.config.experiment import Experiment
from simserve.config.instances import InstanceGroup
from simserve.config.paths import hardware_reference
from simserve.cost.host import HostOverheads
from simserve.cost.memory import kv_capacity
from simserve.cost.step import StepCost
from simserve.engine import InstanceSpec
from simserve.errors import ConfigError, ModelError, ProfileError
from simserve.hardware import HardwareProfile, load_profile
from simserve.model import ModelArchitecture, Parallel, load_model, rank_kv_bytes_per_token
from simserve.policies import registry
from simserve.workload.config import build_workload
from simserve.workload.requests import Workload

_GIB = 2**30
_DEFAULT_SEATS = 128  # for a third party's policy without a limit of its own
_SMALLEST_STEP_TOKENS = 2048  # vLLM's profiling run is never smaller


@dataclass(frozen=True, slots=True)
class Assembly:
    """What `simserve.engine.simulate` is called with."""

    workload: Workload
    instances: tuple[InstanceSpec, ...]
    router: Any


def assemble(experiment: Experiment) -> Assembly:
    """Builds everything an experiment needs. Raises SimserveError: an unreadable trace, weights that do not fit the device..."""
    spec = experiment.spec
    section = spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    instances: list[InstanceSpec] = []
    for index, group in enumerate(experiment.groups):
        try:
            instances += _instances(experiment, group, model, first=len(instances))
        except (ConfigError, ModelError, ProfileError) as error:
            place = messages.at(experiment.document, ("cluster", "instances", index), str(error))
            raise type(error)(str(place)) from error
    workload = build_workload(spec.workload, experiment.base_dir, spec.seed)
    return Assembly(workload, tuple(instances), registry.router(spec.cluster.router.policy))


def _instances(experiment: Experiment, group: InstanceGroup, model: ModelArchitecture, first: int) -> list[InstanceSpec]:
    profile = load_profile(hardware_reference(group.hardware, experiment.base_dir))
    parallel = Parallel(**group.parallel.model_dump())
    engine, kv = experiment.engine, group.kv
    assert kv.block_tokens is not None
    host = HostOverheads(**engine.host.model_dump(), cuda_graph_sizes=tuple(engine.cuda_graph_sizes))
    length = group.max_model_len or model.max_position_embeddings
    # Cost models do not change while running, so the instances of a group share one and its tables.
    cost = StepCost(model, profile, host, parallel, backend=engine.kernel_backend, max_context_tokens=length)
    seats = int(getattr(group.params, "max_seqs", _DEFAULT_SEATS))
    blocks = kv.blocks or _blocks(model, profile, parallel, group, seats, length)
    host_tokens = (kv.host_memory_gib or 0.0) * _GIB / rank_kv_bytes_per_token(model, parallel)
    policy = registry.scheduler_class(group.policy)
    return [
        InstanceSpec(
            name=f"{group.policy}-{first + i}",
            scheduler=policy(group.params),
            cost=cost,
            kv_blocks=blocks,
            block_tokens=kv.block_tokens,
            max_seqs=seats,
            # As vLLM rounds it: a fraction of a block is nothing.
            watermark_blocks=int((kv.watermark or 0.0) * blocks),
            max_model_len=length,
            devices=parallel.devices,
            preemption=kv.preemption or "recompute",
            host_kv_blocks=int(host_tokens // kv.block_tokens),
            order=group.order,
            prefix_caching=bool(kv.prefix_caching),
            policy=group.policy,
        )
        for i in range(group.count)
    ]


def _blocks(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, group: InstanceGroup, seats: int, length: int) -> int:
    """KV blocks that fit beside the weights and the largest step. A policy without a token budget runs whole prompts."""
    params, kv = group.params, group.kv
    budget = getattr(params, "max_num_batched_tokens", None) or getattr(params, "token_budget", None)
    whole_prompts = budget is None or getattr(params, "chunked", True) is False
    return kv_capacity(
        model,
        profile,
        parallel,
        memory_utilisation=kv.memory_utilisation or 0.9,
        block_tokens=kv.block_tokens or 16,
        max_batched_tokens=max(budget or _SMALLEST_STEP_TOKENS, length if whole_prompts else 0),
        max_seqs=seats,
    ).blocks
