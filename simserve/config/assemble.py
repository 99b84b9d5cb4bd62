"""From an experiment to the objects the engine runs: requests, instances with their policies and cost models, router."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from simserve.config import provisioning, python_policies
from simserve.config.cluster import cluster_spec
from simserve.config.deployment import Deployment, own
from simserve.config.experiment import Experiment
from simserve.config.hardware_file import hardware_path, profile_at
from simserve.config.instances import InstanceGroup
from simserve.config.published_costs import published
from simserve.config.python_policies import PythonPolicies
from simserve.config.schema import NetworkSection
from simserve.config.size import check_memory, check_time
from simserve.contracts import Scheduler
from simserve.engine import InstanceSpec
from simserve.engine.spec import ClusterSpec, LinkSpec
from simserve.errors import ConfigError, ModelError, ProfileError
from simserve.files import messages
from simserve.model import ModelArchitecture, Parallel, load_model
from simserve.model.layout import rank_weight_bytes
from simserve.policies import registry
from simserve.workload.config import WorkloadConfig, build_workload
from simserve.workload.drawn import can_be_drawn, drawn, whole
from simserve.workload.requests import Workload

if TYPE_CHECKING:
    from simserve.config.speculation_section import SpeculationSection


@dataclass(frozen=True, slots=True)
class Assembly:
    """What `simserve.engine.simulate` is called with."""

    workload: Workload
    instances: tuple[InstanceSpec, ...]
    cluster: ClusterSpec
    notes: tuple[tuple[str, ...], ...]
    """Of each instance: where it is not what the engine would have."""
    given: PythonPolicies = python_policies.NONE
    """Policy objects that stand in for those that the experiment names."""

    def with_all_requests(self, experiment: Experiment) -> Assembly:
        """The same with no request left to be drawn while the run goes on. Raises ConfigError where memory cannot hold them."""
        check_memory(experiment)
        return replace(self, workload=whole(self.workload))

    def resolved(self, experiment: Experiment) -> dict[str, Any]:
        """The resolved experiment, with what is run instead of what it names."""
        return self.given.told(experiment.resolved())


def assemble(experiment: Experiment, given: PythonPolicies = python_policies.NONE, draw: bool = False) -> Assembly:
    """Builds everything an experiment needs. `draw`: requests may be left to be drawn or read while the run goes on (`Workload.tables`).

    Raises SimserveError: an unreadable trace, weights that do not fit the device...
    """
    spec = experiment.spec
    check_memory(experiment, pieces=draw)
    section = spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    instances: list[InstanceSpec] = []
    instance_notes: list[tuple[str, ...]] = []
    speculation: list[SpeculationSection | None] = []
    for index, group in enumerate(experiment.groups):
        try:
            deployed = deployment(experiment, group, model, given.schedulers.get(index))
            made = _instances(experiment, group, deployed, first=len(instances))
            instances += made
            instance_notes += [deployed.notes()] * len(made)
            speculation += [group.speculation] * len(made)
        except (ConfigError, ModelError, ProfileError) as error:
            place = messages.at(experiment.document, ("cluster", "instances", index), str(error))
            raise type(error)(str(place)) from error
    if spec.workload is None:
        raise ConfigError(f"{experiment.name}: has no workload: its probes are asked of variants, and it has none")
    workload = _while_running(experiment, spec.workload) if draw and not any(speculation) else None
    if workload is None:
        workload = build_workload(spec.workload, experiment.base_dir, spec.seed)
    cluster = given.routed(cluster_spec(spec.cluster, experiment.policies, spec.seed, spec.hardware))
    check_time(experiment, workload, cluster)
    try:
        told = _speculating(experiment, instances, speculation, workload)
    except ConfigError as error:
        stated = [path for path in experiment.document.places if path[-2:] == ("speculation", "acceptance")]
        where = f"{experiment.document.place(stated[0])}: " if len(stated) == 1 else ""
        raise ConfigError(f"{where}{error}") from error
    return Assembly(workload, told, cluster, tuple(instance_notes), given)


def _speculating(
    experiment: Experiment, instances: list[InstanceSpec], sections: list[SpeculationSection | None], workload: Workload
) -> tuple[InstanceSpec, ...]:
    """The instances, those that speculate told how. Raises ConfigError."""
    if not any(sections):
        return tuple(instances)
    from simserve.config.speculating import speculating

    return speculating(instances, sections, experiment.engine, workload.requests, experiment.spec.seed)


def _while_running(experiment: Experiment, section: WorkloadConfig) -> Workload | None:
    """Requests that are drawn, or read from a trace, while the run goes on; None where they have to be there before."""
    if can_be_drawn(section):
        return drawn(section, experiment.spec.seed)
    if section.trace is None:
        return None
    from simserve.workload.replayed import replayed

    return replayed(section, experiment.base_dir, experiment.spec.seed, experiment.spec.stream_above)


def deployment(experiment: Experiment, group: InstanceGroup, model: ModelArchitecture, scheduler: Scheduler | None = None) -> Deployment:
    """What the instances of a group are made of; `scheduler` stands in for the one that it names."""
    path = hardware_path(group.hardware, experiment.base_dir)
    longest = group.max_model_len or model.max_position_embeddings
    if group.stated_budget and scheduler is None and (why := group.params.refused(longest)):
        raise ConfigError(f"{group.stated_budget}: {why}")
    return Deployment(
        model=model,
        hardware=profile_at(path, path.stat().st_mtime_ns),
        parallel=Parallel(**group.parallel.model_dump()),
        scheduler=scheduler or registry.scheduler_class(group.policy)(group.params),
        policy=type(scheduler).__name__ if scheduler else group.policy,
        order=registry.order(group.order),
        engine=experiment.engine,
        kv=group.kv,
        options=experiment.spec.model_section.options,
        published=published(experiment),
        cost_model=experiment.cost_model,
        max_model_len=group.max_model_len,
        jitter_seed=experiment.spec.seed,
        **_draft(experiment, group),
    )


def _draft(experiment: Experiment, group: InstanceGroup) -> dict[str, Any]:
    """The draft of a group that speculates."""
    if group.speculation is None:
        return {}
    from simserve.config.speculating import draft_of

    return {"draft": draft_of(group.speculation, experiment.base_dir)}


def _instances(experiment: Experiment, group: InstanceGroup, deployed: Deployment, first: int) -> list[InstanceSpec]:
    link = deployed.link(experiment.spec.cluster.network)
    uplink, nodes = _uplink(experiment.spec.cluster.network, link), _nodes(experiment, group)
    start = _start(experiment, group, deployed)
    one = deployed.instance_spec(f"{deployed.policy}-{first}", role=group.role, link=link, node=nodes[0], uplink=uplink, **start)
    others = (
        replace(one, name=f"{deployed.policy}-{first + i}", scheduler=own(one.scheduler), node=nodes[i], starts=i < group.count)
        for i in range(1, group.max_count)
    )
    return [replace(one, starts=group.count > 0), *others]


def _start(experiment: Experiment, group: InstanceGroup, deployed: Deployment) -> dict[str, Any]:
    """How an instance of a group starts, and the pool that it stands in."""
    stages = () if group.start is None else provisioning.stages(group.start, _checkpoint_bytes(deployed))
    pools = experiment.spec.cluster.node_pools
    return {
        "boot_s": group.boot_s if group.start is None else sum(stage.seconds for stage in stages),
        "stages": stages,
        "pool": provisioning.pool_number(pools, group.hardware, experiment.spec.hardware) if pools else 0,
    }


def _checkpoint_bytes(deployed: Deployment) -> float:
    """Bytes of the weights once, the draft's included: what an instance reads when it starts, whatever its layout."""
    draft = 0 if deployed.loaded_draft is None else deployed.loaded_draft.weight_bytes
    return float(rank_weight_bytes(deployed.model, Parallel()) + draft)


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
