"""From an experiment to the objects the engine runs: requests, instances with their policies and cost models, router."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from simserve.config.cluster import cluster_spec
from simserve.config.engine_profile import host_speed
from simserve.config.experiment import Experiment
from simserve.config.hardware_file import hardware_path, profile_at
from simserve.config.instances import InstanceGroup
from simserve.config.published_costs import polynomial_cost
from simserve.config.schema import NetworkSection
from simserve.config.size import check_memory, check_time
from simserve.contracts import CostModel, SchedulerParams
from simserve.cost.host import HostOverheads
from simserve.cost.kv_groups import kv_groups, pool_notes
from simserve.cost.memory import FractionOf, kv_capacity
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.engine import InstanceSpec
from simserve.engine.spec import ClusterSpec, LinkSpec
from simserve.errors import ConfigError, ModelError, ProfileError
from simserve.files import messages
from simserve.hardware import HardwareProfile
from simserve.model import ModelArchitecture, Parallel, load_model, rank_kv_bytes_per_token
from simserve.policies import registry
from simserve.workload.config import build_workload
from simserve.workload.requests import Workload

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Assembly:
    """What `simserve.engine.simulate` is called with."""

    workload: Workload
    instances: tuple[InstanceSpec, ...]
    cluster: ClusterSpec
    memory_notes: tuple[tuple[str, ...], ...]
    """Of each instance: where its KV cache is not what the engine would have."""


def assemble(experiment: Experiment) -> Assembly:
    """Builds everything an experiment needs. Raises SimserveError: an unreadable trace, weights that do not fit the device..."""
    spec = experiment.spec
    check_memory(experiment)
    section = spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    instances: list[InstanceSpec] = []
    memory_notes: list[tuple[str, ...]] = []
    for index, group in enumerate(experiment.groups):
        try:
            made = _instances(experiment, group, model, first=len(instances))
            instances += made
            memory_notes += [_memory_notes(experiment, group, model, made[0])] * len(made)
        except (ConfigError, ModelError, ProfileError) as error:
            place = messages.at(experiment.document, ("cluster", "instances", index), str(error))
            raise type(error)(str(place)) from error
    if spec.workload is None:
        raise ConfigError(f"{experiment.name}: has no workload: its probes are asked of variants, and it has none")
    workload = build_workload(spec.workload, experiment.base_dir, spec.seed)
    cluster = cluster_spec(spec.cluster, experiment.policies, spec.seed)
    check_time(experiment, workload, cluster)
    return Assembly(workload, tuple(instances), cluster, tuple(memory_notes))


@dataclass(frozen=True, slots=True)
class Machine:
    """The cost model of a group's instances and what its memory is counted with.

    step_tokens          the policy's token budget; None = none, prompts run whole
    largest_step_tokens  what activations are charged for
    """

    model: ModelArchitecture
    profile: HardwareProfile
    parallel: Parallel
    cost: CostModel
    seats: int
    max_model_len: int
    block_tokens: int
    memory_utilisation: float
    kv_element_bytes: float
    step_tokens: int | None
    largest_step_tokens: int
    fraction_of: FractionOf


@functools.lru_cache(maxsize=8)
def _cost(
    model: ModelArchitecture,
    path: Path,
    modified_ns: int,
    host: HostOverheads,
    parallel: Parallel,
    backend: str | None,
    length: int,
    element: float,
    options: CostOptions,
) -> StepCost:
    """A cost model with its tables. No answer of it depends on what it was asked before, so the runs of a study share it."""
    return StepCost(
        model,
        profile_at(path, modified_ns),
        host,
        parallel,
        backend=backend,
        max_context_tokens=length,
        kv_dtype_bytes=element,
        options=options,
    )


def machine(experiment: Experiment, group: InstanceGroup, model: ModelArchitecture) -> Machine:
    """Builds the cost model that the instances of a group share: it does not change while running."""
    path = hardware_path(group.hardware, experiment.base_dir)
    written_ns = path.stat().st_mtime_ns
    profile = profile_at(path, written_ns)
    parallel = Parallel(**group.parallel.model_dump())
    engine, options = experiment.engine, experiment.spec.model_section.options
    host = HostOverheads(**engine.host.model_dump(), cuda_graph_sizes=tuple(engine.cuda_graph_sizes)).on(host_speed(engine, profile.name))
    length = group.max_model_len or model.max_position_embeddings
    if group.stated_budget and (why := group.params.refused(length)):
        raise ConfigError(f"{group.stated_budget}: {why}")
    element = 2.0 * options.cached_share(model)
    cost: CostModel
    if experiment.spec.cost is not None:
        cost = polynomial_cost(experiment, model, profile, parallel, element)
    else:
        # No kernel of latent attention in the profiles reads a quantised cache: there it only saves memory.
        read = options.model_copy(update={"kv_bits": None}) if model.mla else options
        cost = _cost(model, path, written_ns, host, parallel, engine.kernel_backend, length, element, read)
    utilisation = group.kv.memory_utilisation or 0.9
    return Machine(
        model,
        profile,
        parallel,
        cost,
        group.params.max_seqs,
        length,
        group.kv.block_tokens or 16,
        utilisation,
        element,
        _budget(group.params),
        group.params.step_tokens(length),
        engine.memory.fraction_of,
    )


def _budget(params: SchedulerParams) -> int | None:
    """The largest step, if it does not depend on the prompts."""
    tokens = params.step_tokens(0)
    return tokens if tokens == params.step_tokens(10**9) else None


def _instances(experiment: Experiment, group: InstanceGroup, model: ModelArchitecture, first: int) -> list[InstanceSpec]:
    built, kv = machine(experiment, group, model), group.kv
    seats, parallel = built.seats, built.parallel
    blocks = kv.blocks or _blocks(built)
    host_tokens = (kv.host_memory_gib or 0.0) * _GIB / rank_kv_bytes_per_token(model, parallel, built.kv_element_bytes)
    policy = registry.scheduler_class(group.policy)
    link = link_spec(experiment.spec.cluster.network, built)
    uplink, nodes = _uplink(experiment.spec.cluster.network, link), _nodes(experiment, group)
    return [
        InstanceSpec(
            name=f"{group.policy}-{first + i}",
            scheduler=policy(group.params),
            cost=built.cost,
            kv_blocks=blocks,
            block_tokens=built.block_tokens,
            max_seqs=seats,
            # As vLLM rounds it: a fraction of a block is nothing.
            watermark_blocks=int((kv.watermark or 0.0) * blocks),
            max_model_len=built.max_model_len,
            devices=parallel.devices,
            preemption=kv.preemption or "recompute",
            host_kv_blocks=int(host_tokens // built.block_tokens),
            order=registry.order(group.order),
            prefix_caching=bool(kv.prefix_caching),
            request_s=experiment.engine.request_path.per_request_s,
            request_per_prompt_token_s=experiment.engine.request_path.per_prompt_token_s,
            steps_ahead=experiment.engine.request_path.steps_ahead,
            policy=group.policy,
            role=group.role,
            link=link,
            node=nodes[i],
            uplink=uplink,
            starts=i < group.count,
            boot_s=group.boot_s,
        )
        for i in range(group.max_count)
    ]


def link_spec(network: NetworkSection, built: Machine) -> LinkSpec:
    """How KV leaves an instance: as the experiment says, else through the devices' scale-up link, else through the host."""
    default = built.profile.device.scale_up or built.profile.device.host
    return LinkSpec(
        bytes_per_s=network.bytes_per_s if network.bytes_per_s is not None else default.bytes_per_s,
        latency_s=network.latency_s if network.latency_s is not None else default.latency_s,
        kv_bytes_per_token=float(built.model.kv_bytes_per_token(built.kv_element_bytes)),
        per_message_s=network.per_message_s,
        message_bytes=network.message_bytes,
        layers=built.model.num_layers,
    )


def _uplink(network: NetworkSection, link: LinkSpec) -> LinkSpec | None:
    """How KV leaves a node."""
    if network.between_nodes is None:
        return None
    return replace(link, bytes_per_s=network.between_nodes.bytes_per_s, latency_s=network.between_nodes.latency_s)


def _nodes(experiment: Experiment, group: InstanceGroup) -> list[int]:
    """The node of each instance of a group: the groups fill one node after the other, an instance that does not fit begins a new one."""
    between = experiment.spec.cluster.network.between_nodes
    if between is None:
        return [0] * group.max_count
    used = 0
    for one in experiment.groups:
        devices = Parallel(**one.parallel.model_dump()).devices
        found = []
        for _ in range(one.max_count):
            left = -used % between.node_devices
            if devices > left > 0:
                used += left
            found.append(used // between.node_devices)
            used += devices
        if one is group:
            return found
    raise AssertionError(group)


def _blocks(built: Machine) -> int:
    """KV blocks that fit beside the weights and the largest step."""
    return kv_capacity(
        built.model,
        built.profile,
        built.parallel,
        memory_utilisation=built.memory_utilisation,
        fraction_of=built.fraction_of,
        block_tokens=built.block_tokens,
        max_batched_tokens=built.largest_step_tokens,
        max_seqs=built.seats,
        kv_dtype_bytes=built.kv_element_bytes,
    ).blocks


def _memory_notes(experiment: Experiment, group: InstanceGroup, model: ModelArchitecture, made: InstanceSpec) -> tuple[str, ...]:
    """Where one pool of equal blocks is not what the engine has."""
    parallel = Parallel(**group.parallel.model_dump())
    element = 2.0 * experiment.spec.model_section.options.cached_share(model)
    kv_bytes = made.kv_blocks * made.block_tokens * rank_kv_bytes_per_token(model, parallel, element)
    groups, windows = kv_groups(model, parallel, element), experiment.engine.memory.windowed_layers
    notes = pool_notes(model, experiment.engine.engine, groups, windows, made.max_seqs, kv_bytes)
    bits = experiment.spec.model_section.options.kv_bits
    if model.mla and bits:
        notes.append(f"The cache of {model.name} is stored in {bits:g} bits an element; its latent attention is timed as reading 16.")
    return tuple(notes)
