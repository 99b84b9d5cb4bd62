"""An experiment as what to type: a command line for each group of instances, Kubernetes manifests, and what neither of them says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from simserve.config.assemble import deployment
from simserve.config.experiment import Experiment
from simserve.config.instances import InstanceGroup
from simserve.deploy.checkpoint import Checkpoint, checkpoint
from simserve.deploy.command import Command, arguments, options, yaml_of
from simserve.deploy.flag_list import FlagList, of_profile
from simserve.deploy.kubernetes import manifests
from simserve.deploy.result import Launch
from simserve.deploy.settings import written
from simserve.deploy.written import Written
from simserve.errors import SimserveError
from simserve.model import ModelArchitecture, load_model

_NODE_DEVICES = 8
_LONGEST_NAME = 40
"""Of a name that Kubernetes objects are called by: a label has 63 characters, and `-prefill-0` and the like are added."""


def launch(
    experiment: Experiment,
    *,
    version: str | None = None,
    model_name: str | None = None,
    node_devices: int | None = None,
    image: str | None = None,
) -> Launch:
    """An experiment's instances as command lines and manifests of the engine that it imitates.

    version       of the engine; default: the one that the profile's flags were read from
    model_name    the checkpoint, as the engine takes it; default: the public one with the experiment's architecture
    node_devices  devices of a node; default: those of the experiment's plan or network, or 8
    image         the container; default: the engine's own of that version

    Raises ConfigError for a profile without a list of flags, and for a version outside of it.
    """
    listed = of_profile(experiment.engine)
    chosen, note = listed.version(experiment.engine.name, version)
    section = experiment.spec.model_section
    found = Checkpoint(model_name) if model_name else checkpoint(section.name, experiment.base_dir)
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    node = node_devices or _node_devices(experiment)
    notes = [*([note] if note else []), *([found.note] if found.note else [])]
    commands = []
    roles = {group.role for group in experiment.groups}
    for index, group in enumerate(experiment.groups):
        one = written(experiment, group, listed, chosen)
        _fit_context(one, experiment, group, model)
        _roles(one, group, experiment)
        one.put(listed.metrics.flags, "metrics")
        name = _name(experiment.name, [g.role for g in experiment.groups], index)
        commands.append(_command(one, group, name, found, node, experiment))
        notes += one.notes
    notes += _of_cluster(experiment, listed)
    if roles & {"prefill", "decode"}:
        hosts = ", ".join(host for one in commands for host in _hosts(one))
        notes.append(f"{hosts} stand for the instances' own addresses; what is in front needs each (a Service is one for all)")
    router, files = _router(listed, chosen, commands) if roles & {"prefill", "decode"} else ((), {})
    plain = Launch(
        experiment.name, listed.title, chosen, experiment.engine.name, f"{listed.checked}", tuple(commands), router, files,
        notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    texts, more = manifests(plain, experiment, listed, model.weight_bytes(), image)
    return replace(plain, manifests=texts, notes=tuple(dict.fromkeys([*plain.notes, *more])))


def _name(name: str, roles: list[str], index: int) -> str:
    """A name that Kubernetes takes, one for each group."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "model"
    slug = slug if slug[0].isalpha() else f"m-{slug}"
    role = roles[index]
    parts = [slug, *([] if role == "mixed" else [role]), *([f"{index}"] if roles.count(role) > 1 else [])]
    return "-".join(parts)


def _node_devices(experiment: Experiment) -> int:
    if experiment.spec.plan is not None:
        return experiment.spec.plan.node_devices
    between = experiment.spec.cluster.network.between_nodes
    return _NODE_DEVICES if between is None else between.node_devices


def _fit_context(one: Written, experiment: Experiment, group: InstanceGroup, model: ModelArchitecture) -> None:
    """States a context that the KV cache holds, for an engine that would not start with the model's own."""
    if not one.listed.context_must_fit or group.max_model_len is not None:
        return
    longest = model.max_position_embeddings
    try:
        built = deployment(experiment, group, model)
        tokens = built.capacity().tokens
        fits = built.sequences_that_fit(built.capacity(), longest) > 0
    except SimserveError:
        return  # weights that do not fit: the run itself says so
    if not fits:
        one.put({"max_model_len": tokens}, "max_model_len")
        one.notes.append(
            f"{one.engine} does not start unless a request of the model's whole context ({longest:,} tokens) fits its KV cache:"
            f" --max-model-len {tokens} is what fits; longer requests are refused"
        )


def _roles(one: Written, group: InstanceGroup, experiment: Experiment) -> None:
    """Flags of an instance that serves a part of each request."""
    if group.role == "mixed":
        return
    roles = one.listed.roles
    if roles is None or not one.listed.within(roles.since, None, one.version):
        one.notes.append(
            f"role {group.role}: {one.engine} cannot serve prefill and decode apart (since {roles.since if roles else 'never'})"
        )
        return
    one.put(roles.prefill if group.role == "prefill" else roles.decode, f"role {group.role}")
    one.notes.append(f"prefill and decode apart need {roles.needs}")
    stated = experiment.spec.cluster.network.kv_transfer
    if not stated.startswith(roles.transfer):
        one.notes.append(f"cluster.network.kv_transfer {stated}: {one.engine} moves KV by {roles.transfer}, whatever the experiment says")


def _command(one: Written, group: InstanceGroup, name: str, found: Checkpoint, node: int, experiment: Experiment) -> Command:
    listed, variables = one.listed, {}
    layout = group.parallel
    devices = layout.tp * layout.pp * layout.dp
    nodes = -(-devices // node)
    model = "$MODEL" if found.name is None else found.name
    if found.name is None:
        variables["MODEL"] = "the checkpoint, a name or a folder"
    one.flags["model" if "model" in listed.flags else "model_path"] = model
    if one.for_key("speculation.draft") and group.speculation is not None:
        _draft(one, group, variables, experiment)
    one.flags |= listed.server
    if nodes > 1:
        _nodes(one, nodes, variables)
    files: dict[str, str] = {}
    content = options(listed, one.in_order())
    if content and listed.options is not None:
        files[f"{name}.options.yaml"] = yaml_of(content)
        one.flags[listed.options] = f"{name}.options.yaml"
    env = dict(listed.roles.env) if group.role != "mixed" and listed.roles is not None else {}
    if "POD_IP" in env.values():
        variables["POD_IP"] = "the address of this machine"
        env = {key: f"${value}" if value in variables else value for key, value in env.items()}
    argv = (*listed.program, *arguments(listed, one.in_order()))
    return Command(name, group.role, group.count, group.max_count, group.hardware, devices, nodes, argv, variables, env, files)


def _draft(one: Written, group: InstanceGroup, variables: dict[str, str], experiment: Experiment) -> None:
    """The draft's checkpoint in place of its architecture."""
    assert group.speculation is not None
    method = group.speculation.method or ""
    flag = one.for_key("speculation.draft", method)
    if method in ("ngram", "mtp") or flag is None:
        return
    found = Checkpoint(None) if group.speculation.draft is None else checkpoint(group.speculation.draft, experiment.base_dir)
    one.flags[flag] = found.name if found.name is not None else "$DRAFT"
    if found.name is None:
        variables["DRAFT"] = "the checkpoint of the draft, a name or a folder"


def _nodes(one: Written, nodes: int, variables: dict[str, str]) -> None:
    """Flags of an instance over several nodes."""
    entry = one.listed.nodes
    if entry is None or not one.listed.within(entry.since, None, one.version):
        one.notes.append(
            f"an instance over {nodes} nodes: start {one.engine} on a Ray cluster or under MPI of these nodes, as its manual says"
        )
        return
    variables |= {"NODE_RANK": "0 on the first node, 1 on the next ...", "FIRST_NODE": "the address of the first node"}
    said = {"nodes": nodes, "rank": "$NODE_RANK", "first": "$FIRST_NODE", "first-with-port": "$FIRST_NODE"}
    one.put({flag: said[what] for flag, what in entry.flags.items()}, f"{nodes} nodes")
    if "first-with-port" in entry.flags.values():
        variables["FIRST_NODE"] = "the first node as address:port"
    if entry.others:
        flags = " ".join(arguments(one.listed, entry.others))
        one.notes.append(f"an instance has {nodes} nodes: the same line on each, with {flags} on all but the first")


def _router(listed: FlagList, version: str, commands: Iterable[Command]) -> tuple[tuple[str, ...], dict[str, str]]:
    """What stands in front of prefill and decode instances, with addresses as the manifests name them."""
    entry = None if listed.roles is None or not listed.within(listed.roles.since, None, version) else listed.roles.router
    if entry is None:
        return (), {}
    if entry.file:
        port = listed.server["port"]
        urls = {role: [f"{host}:{port}" for one in commands if one.role == role for host in _hosts(one)] for role in ("prefill", "decode")}
        content = {"hostname": "0.0.0.0", "port": port} | {
            key: {"num_instances": len(urls[role]), "urls": urls[role]}
            for key, role in (("context_servers", "prefill"), ("generation_servers", "decode"))
        }
        return (" ".join(entry.program),), {entry.file: yaml_of(content)}
    groups = [" ".join(entry.program)]
    for one in commands:
        words = {"prefill": entry.prefill, "decode": entry.decode}.get(one.role, [])
        for host in _hosts(one) if words else ():
            groups.append(" ".join(word.replace("{url}", f"http://{host}:{listed.server['port']}") for word in words))
    return (*groups, " ".join(entry.last)), {}


def _hosts(one: Command) -> list[str]:
    """Stand-ins for the addresses of a group's instances."""
    return [one.name] if one.most == 1 else [f"{one.name}-{number}" for number in range(one.most)]


def _of_cluster(experiment: Experiment, listed: FlagList) -> list[str]:
    """What is about the instances together, which no engine is told."""
    notes = []
    router = experiment.spec.cluster.router.policy
    several = sum(group.max_count for group in experiment.groups) > 1
    if several and router not in ("round-robin", "random") and not any(group.role != "mixed" for group in experiment.groups):
        notes.append(f"router {router}: a Kubernetes Service spreads connections evenly; put a gateway in front that routes like that")
    if experiment.spec.cluster.network.between_nodes is not None or experiment.spec.cluster.migration.model_fields_set:
        notes.append("network and migration are those of the hardware: no flag sets them")
    return notes
