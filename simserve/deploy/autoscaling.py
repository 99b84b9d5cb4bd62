"""An experiment's autoscaler as Kubernetes objects: a HorizontalPodAutoscaler (autoscaling/v2) for `hpa`, KEDA's ScaledObject for `keda`.

Metrics of engines reach the HorizontalPodAutoscaler through prometheus-adapter, whose rules are written beside it; KEDA asks Prometheus
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve.config.experiment import Experiment
from simserve.deploy.command import yaml_of
from simserve.deploy.flag_list import Exported, FlagList, order
from simserve.deploy.result import Launch
from simserve.deploy.settings import seconds
from simserve.policies.scaling.exported import Metric
from simserve.policies.scaling.hpa import HpaParams
from simserve.policies.scaling.keda import Keda

ADAPTER = "prometheus-adapter.yaml"
_PROMETHEUS = "http://prometheus.monitoring:9090"
_SYNC_S = 15.0
_TOLERANCE = 0.1
"""Defaults of kube-controller-manager: --horizontal-pod-autoscaler-sync-period and -tolerance."""

_ELSEWHERE = {
    "saturation": "llm-d's workload variant autoscaler decides like it",
    "forecast": "a controller that sets `replicas` by your forecast, such as KEDA's cron or predictkube scaler",
    "llumnix-scaling": "Llumnix has a scheduler of its own that does it",
}
"""Autoscalers that no plain Kubernetes object is: what to look for."""


def scaled_roles(experiment: Experiment) -> set[str]:
    """Roles whose number of instances an object that is written here decides."""
    return {choice.params.role for choice in experiment.policies.controllers if isinstance(choice.params, HpaParams)}


def autoscalers(launch: Launch, experiment: Experiment, listed: FlagList) -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """(objects, files besides, notes)."""
    objects: list[dict[str, Any]] = []
    notes: list[str] = []
    used: dict[Metric, Exported] = {}
    windows: list[float] = []
    for choice in experiment.policies.controllers:
        params = choice.params
        if not isinstance(params, HpaParams):
            what = _ELSEWHERE.get(choice.policy)
            notes.append(f"controller {choice.policy}: no plain Kubernetes object does this{f'; {what}' if what else ''}")
            continue
        for command in launch.commands:
            if command.role != params.role or command.nodes > 1:
                continue
            metrics, missing = _metrics(params.targets, listed, launch)
            notes += missing
            if not metrics:
                continue
            bounds = (params.min_instances, min(command.most, params.max_instances or command.most))
            make = _scaled_object if isinstance(params, Keda.Params) else _autoscaler
            objects.append(make(command.name, params, metrics, bounds))
            if make is _autoscaler:
                used |= metrics
                windows.append(params.window_s)
            notes += _notes(choice.policy, params)
            if "ttft_s" in metrics and make is _autoscaler:
                notes.append("ttft_s is one value of all instances: Prometheus must scrape through the Service (a ServiceMonitor)")
    files = {ADAPTER: yaml_of(_adapter(used, max(windows)))} if used else {}
    if used:
        notes.append(
            f"the HorizontalPodAutoscaler reads the engine's metrics through prometheus-adapter: {ADAPTER} holds the values of its chart"
        )
    return objects, files, notes


def _metrics(targets: Mapping[Metric, float], listed: FlagList, launch: Launch) -> tuple[dict[Metric, Exported], list[str]]:
    found: dict[Metric, Exported] = {}
    missing = []
    for metric in targets:
        entry: Exported | None = getattr(listed.metrics, metric, None)
        if entry is None:
            instead = f"; {listed.metrics.missing}" if listed.metrics.missing else ""
            missing.append(f"autoscaler target {metric}: {launch.title} does not export it{instead}")
            continue
        older = [name for version, name in entry.before.items() if order(launch.version) < order(version)]
        found[metric] = entry.model_copy(update={"name": older[0]}) if older else entry
    return found, missing


def _notes(name: str, params: HpaParams) -> list[str]:
    """What the objects cannot say of a policy."""
    notes = []
    if params.interval_s != _SYNC_S:
        notes.append(
            f"{name}: interval_s {params.interval_s:g} is --horizontal-pod-autoscaler-sync-period of the cluster's controller manager"
        )
    if params.tolerance != _TOLERANCE:
        notes.append(f"{name}: tolerance {params.tolerance:g} needs Kubernetes 1.33 or later with HPAConfigurableTolerance")
    if isinstance(params, Keda.Params):
        notes.append(f"{name}: {_PROMETHEUS} stands for your Prometheus")
        if not params.min_instances:
            notes.append(
                f"{name}: an engine that is scaled to zero exports nothing, and a Service holds no requests: what wakes it must count them"
                " in front (a gateway with a queue, or KEDA's HTTP add-on)"
            )
    return notes


def exposed(metric: Exported) -> str:
    """The name by which autoscalers ask for it: the engine's own, and for what is calculated from that a name that says so."""
    if metric.rate:
        return metric.name.removesuffix("_total") + "_per_second"
    return f"{metric.name}_mean" if metric.mean else metric.name


def quantity(value: float) -> str:
    """A number as a Kubernetes quantity."""
    return f"{value:g}" if float(value).is_integer() else f"{round(value * 1000)}m"


def _autoscaler(name: str, params: HpaParams, metrics: Mapping[Metric, Exported], bounds: tuple[int, int]) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicas": bounds[0],
            "maxReplicas": bounds[1],
            "metrics": [_metric(key, metric, params.targets[key], name) for key, metric in metrics.items()],
            "behavior": _behaviour(params),
        },
    }


def _target(name: str) -> dict[str, str]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


def _metric(key: str, metric: Exported, target: float, name: str) -> dict[str, Any]:
    if key == "ttft_s":  # one value of all instances
        about = {"apiVersion": "v1", "kind": "Service", "name": name}
        return {
            "type": "Object",
            "object": {
                "metric": {"name": exposed(metric)},
                "describedObject": about,
                "target": {"type": "Value", "value": quantity(target)},
            },
        }
    return {
        "type": "Pods",
        "pods": {"metric": {"name": exposed(metric)}, "target": {"type": "AverageValue", "averageValue": quantity(target)}},
    }


def _behaviour(params: HpaParams) -> dict[str, Any]:
    """Stabilisation, rate limits and, where it is not the cluster's default, the tolerance."""
    up = _rules(params.scale_up_stabilisation_s, params.up_percent, params.up_instances, params)
    down = _rules(params.scale_down_stabilisation_s, params.down_percent, params.down_instances, params)
    return {"scaleUp": up, "scaleDown": down}


def _rules(stabilisation_s: float, percent: float, instances: int, params: HpaParams) -> dict[str, Any]:
    period = max(1, seconds(params.period_s))
    policies = [{"type": "Percent", "value": round(percent), "periodSeconds": period}] if percent > 0 else []
    policies += [{"type": "Pods", "value": instances, "periodSeconds": period}] if instances > 0 else []
    rules: dict[str, Any] = {"stabilizationWindowSeconds": seconds(stabilisation_s)}
    if policies:
        rules |= {"selectPolicy": "Max", "policies": policies}
    else:
        rules["selectPolicy"] = "Disabled"
    if params.tolerance != _TOLERANCE:
        rules["tolerance"] = quantity(params.tolerance)
    return rules


def _query(metric: Exported, window_s: float, selector: str) -> str:
    window = f"[{max(1, seconds(window_s))}s]"
    if metric.rate:
        return f"sum(rate({metric.name}{selector}{window}))"
    if metric.mean:
        return f"sum(rate({metric.name}_sum{selector}{window})) / sum(rate({metric.name}_count{selector}{window}))"
    return f"sum({metric.name}{selector})"


def _scaled_object(name: str, params: HpaParams, metrics: Mapping[Metric, Exported], bounds: tuple[int, int]) -> dict[str, Any]:
    assert isinstance(params, Keda.Params)
    triggers = []
    for key, metric in metrics.items():
        said = {
            "serverAddress": _PROMETHEUS,
            "query": _query(metric, params.window_s, f'{{pod=~"{name}-.*"}}'),
            "threshold": f"{params.targets[key]:g}",
            "activationThreshold": f"{params.activation}",
        }
        triggers.append({"type": "prometheus", "metricType": "Value" if key == "ttft_s" else "AverageValue", "metadata": said})
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "pollingInterval": max(1, seconds(params.polling_s)),
            "cooldownPeriod": seconds(params.cooldown_s),
            "minReplicaCount": bounds[0],
            "maxReplicaCount": bounds[1],
            "triggers": triggers,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behaviour(params)}},
        },
    }


def _adapter(metrics: Mapping[Metric, Exported], window_s: float) -> dict[str, Any]:
    """Values of prometheus-adapter's chart: each metric for pods, a mean over all instances for their Service."""
    rules = []
    for metric in metrics.values():
        series = f"{metric.name}_sum" if metric.mean else metric.name
        labels = {
            "namespace": {"resource": "namespace"},
            "service" if metric.mean else "pod": {"resource": "service" if metric.mean else "pod"},
        }
        window = f"[{max(1, seconds(window_s))}s]"
        matched = "{<<.LabelMatchers>>}"
        if metric.mean:
            both = [f"sum(rate({metric.name}_{part}{matched}{window})) by (<<.GroupBy>>)" for part in ("sum", "count")]
            query = " / ".join(both)
        elif metric.rate:
            query = f"sum(rate({metric.name}{matched}{window})) by (<<.GroupBy>>)"
        else:
            query = f"sum({metric.name}{matched}) by (<<.GroupBy>>)"
        rules.append(
            {
                "seriesQuery": f'{series}{{namespace!=""}}',
                "resources": {"overrides": labels},
                "name": {"matches": "", "as": exposed(metric)},
                "metricsQuery": query,
            }
        )
    return {"rules": {"custom": rules}}
