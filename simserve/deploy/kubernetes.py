"""Kubernetes objects of a launch: a Deployment (over several nodes a StatefulSet for each instance) with its Service and autoscaler.

Only kinds that every cluster has, and KEDA's ScaledObject where the policy is `keda`. Objects are plain mappings; the shapes are checked in
the tests against the schemas of Kubernetes' own API.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simserve.config.experiment import Experiment
from simserve.config.instances import InstanceGroup
from simserve.deploy.autoscaling import autoscalers, scaled_roles
from simserve.deploy.command import Command, arguments, yaml_of
from simserve.deploy.flag_list import FlagList, bundled_for
from simserve.deploy.result import Launch
from simserve.deploy.settings import seconds
from simserve.files import yaml_text

MANIFEST = "kubernetes.yaml"
_SECRET = "hf-token"
_CACHE = "/models"
_OPTIONS = "/etc/engine"
_DOWNLOAD_BYTES_PER_S = 125e6
"""1 Gbit/s: what a start-up probe allows for weights that are not on the node yet."""
_SLACK = 2.0
"""By how much a start may take longer than expected before the kubelet begins it anew, which would only take longer."""
_PROBE_S = 10
"""Kubernetes' default period of a probe (v1 Probe, periodSeconds)."""
_SHARED_GIB = 2
"""/dev/shm for the processes of a tensor-parallel instance; vLLM's manual gives as much (docs/deployment/k8s.md)."""
_CHANGE = "CHANGE-ME"


class Device(NamedTuple):
    """A device as Kubernetes knows it: its resource, and the node label that selects it."""

    resource: str
    label: str = ""
    value: str = ""
    assumed: bool = False


@functools.lru_cache(maxsize=1)
def devices() -> Mapping[str, Device]:
    """By hardware profile."""
    data = yaml_text.read(Path(__file__).with_name("devices.yaml")).data["devices"]
    return {name: Device(**entry) for name, entry in data.items()}


def manifests(
    launch: Launch, experiment: Experiment, listed: FlagList, weight_bytes: int, image: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """(file name -> text, notes). `weight_bytes`: what an instance downloads when it starts for the first time."""
    chosen = image or (None if listed.image is None else listed.image.format(version=launch.version))
    notes = [] if chosen else [f"no image of {launch.title} is known: state one (--image); {_CHANGE} stands for it"]
    objects: list[dict[str, Any]] = []
    scaled = scaled_roles(experiment)
    for command, group in zip(launch.commands, experiment.groups, strict=True):
        found, said = _objects(command, group, listed, chosen or _CHANGE, weight_bytes, scaled=command.role in scaled)
        objects += found
        notes += [*said, *([] if image else _of_image(chosen or listed.title, listed, group.hardware))]
    scalers, files, said = autoscalers(launch, experiment, listed)
    objects += scalers
    text = "---\n".join(yaml_of(one) for one in objects)
    head = [f"# kubectl apply -f {MANIFEST}", f"# {launch.title} for {launch.name}; flags as of {launch.checked}."]
    head.append(f"# A gated model needs: kubectl create secret generic {_SECRET} --from-literal=token=...")
    return {MANIFEST: "\n".join([*head, text]), **files}, [*notes, *said]


def _objects(
    command: Command, group: InstanceGroup, listed: FlagList, image: str, weight_bytes: int, *, scaled: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of one group."""
    name = command.name
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": command.role}
    device = devices().get(group.hardware, Device(""))
    notes = _of_device(device, group.hardware)
    start_s = _SLACK * (group.boot_s + weight_bytes / _DOWNLOAD_BYTES_PER_S)
    container = _container(command, listed, image, device, start_s)
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{_SHARED_GIB}Gi"}},
        {"name": "models", "emptyDir": {}},
    ]
    objects: list[dict[str, Any]] = []
    if command.files:
        volumes.append({"name": "options", "configMap": {"name": f"{name}-options"}})
        container["volumeMounts"].append({"name": "options", "mountPath": _OPTIONS})
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-options"}, "data": dict(command.files)})
    pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
    if device.label:
        pod["nodeSelector"] = {device.label: device.value}
    if device.resource == "nvidia.com/gpu":
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    template = {"metadata": {"labels": labels, "annotations": _scraped(listed)}, "spec": pod}
    if command.nodes > 1:
        objects += _over_nodes(command, labels, template, listed)
        notes.append(
            f"an instance has {command.nodes} nodes, so each is a StatefulSet of its own: pods are told their rank by their index, and the"
            " Service leads to the first; scale by adding such sets, and give them the fabric (RDMA) that the nodes have"
        )
        if scaled:
            notes.append("instances over several nodes cannot be scaled by a plain autoscaler: LeaderWorkerSet can")
        return [*objects, _service(name, {**labels, "apps.kubernetes.io/pod-index": "0"}, listed)], notes
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}  # devices for a surge are rarely there
    spec: dict[str, Any] = {"replicas": command.count, "selector": {"matchLabels": labels}, "strategy": strategy, "template": template}
    if scaled:
        del spec["replicas"]  # applying it again would undo what the autoscaler did
    spec["progressDeadlineSeconds"] = max(600, seconds(start_s) + 60)  # 600: Kubernetes' default
    objects.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec})
    return [*objects, _service(name, labels, listed)], notes


def _of_image(image: str, listed: FlagList, hardware: str) -> list[str]:
    """What is wrong with an engine's own image on devices that it is not built for."""
    owner = devices().get(hardware, Device("")).resource.partition("/")[0]
    if owner in ("", listed.devices_of):
        return []
    other = bundled_for(owner)
    instead = f", or an engine for such devices (engine: {', '.join(other)})" if other else ""
    return [f"{image} is for {listed.devices_of} devices and does not run on {hardware} ({owner}): state another image (--image){instead}"]


def _of_device(device: Device, hardware: str) -> list[str]:
    if not device.resource:
        return [f"{hardware}: which Kubernetes resource and node label it has is not known; {_CHANGE} stands for the resource"]
    if device.assumed:
        return [f"node label {device.label}={device.value} of {hardware} is assumed: compare `kubectl get nodes -L {device.label}`"]
    return []


def _container(command: Command, listed: FlagList, image: str, device: Device, start_s: float) -> dict[str, Any]:
    env: list[dict[str, Any]] = [
        {"name": "HF_HOME", "value": _CACHE},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": _SECRET, "key": "token", "optional": True}}},
    ]
    for name in command.variables:
        field = {"POD_IP": "status.podIP", "NODE_RANK": "metadata.labels['apps.kubernetes.io/pod-index']"}.get(name)
        if field:
            env.append({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}})
        elif name != "FIRST_NODE":
            env.append({"name": name, "value": _CHANGE})
    if "FIRST_NODE" in command.variables:
        port = ":5000" if "port" in command.variables["FIRST_NODE"] else ""
        env.append({"name": "FIRST_NODE", "value": f"$(SET_NAME)-0.$(SET_NAME){port}"})
    env += [{"name": name, "value": _substituted(value, command)} for name, value in command.env.items()]
    words = [_substituted(f"{_OPTIONS}/{word}" if word in command.files else word, command) for word in command.argv]
    probe = {"httpGet": {"path": listed.health, "port": "http"}, "periodSeconds": _PROBE_S, "timeoutSeconds": 5}
    number = {device.resource or _CHANGE.lower(): f"{command.devices // command.nodes}"}
    return {
        "name": "engine",
        "image": image,
        "command": words[: len(listed.program)],
        "args": words[len(listed.program) :],
        "env": env,
        "ports": [{"name": "http", "containerPort": listed.server["port"]}],
        "resources": {"limits": number, "requests": number},
        "startupProbe": {**probe, "failureThreshold": max(1, seconds(start_s / _PROBE_S))},
        "readinessProbe": dict(probe),
        "livenessProbe": {**probe, "failureThreshold": 6},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "models", "mountPath": _CACHE}],
    }


def _substituted(word: str, command: Command) -> str:
    """A variable of the shell as one that the kubelet puts in."""
    return f"$({word[1:]})" if word.startswith("$") and word[1:] in command.variables else word


def _scraped(listed: FlagList) -> dict[str, str]:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": f"{listed.server['port']}", "prometheus.io/path": "/metrics"}


def _service(name: str, selector: Mapping[str, str], listed: FlagList) -> dict[str, Any]:
    port = listed.server["port"]
    spec = {"selector": dict(selector), "ports": [{"name": "http", "port": port, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}}, "spec": spec}


def _over_nodes(command: Command, labels: Mapping[str, str], template: Mapping[str, Any], listed: FlagList) -> list[dict[str, Any]]:
    """A StatefulSet for each instance, with the headless Service by which its pods find the first."""
    found: list[dict[str, Any]] = []
    for number in range(command.count):
        name = f"{command.name}-{number}"
        own = {**labels, "app.kubernetes.io/instance": name}
        container = dict(template["spec"]["containers"][0])
        container["env"] = [{"name": "SET_NAME", "value": name}, *container["env"]]
        others = [] if listed.nodes is None else arguments(listed, listed.nodes.others)
        if others:
            script = f'exec "$0" "$@" $(test "$NODE_RANK" = 0 || echo {" ".join(others)})'
            container |= {"command": ["/bin/sh", "-c", script], "args": [*container["command"], *container["args"]]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            container.pop(probe)  # only the first node answers; the set's pods are started together and end together
        spec = {**template["spec"], "containers": [container]}
        head = {"selector": own, "clusterIP": "None", "publishNotReadyAddresses": True, "ports": [{"name": "nodes", "port": 5000}]}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": head})
        pods = {"metadata": {"labels": own, "annotations": template["metadata"]["annotations"]}, "spec": spec}
        state = {
            "serviceName": name,
            "replicas": command.nodes,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": own},
            "template": pods,
        }
        found.append({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "labels": own}, "spec": state})
    return found
