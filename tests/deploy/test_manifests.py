"""Kubernetes objects against the schemas of Kubernetes' own API, and what they hold of an experiment."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest
import yaml

from simserve.api import load
from simserve.config.experiment import Experiment
from simserve.deploy.kubernetes import devices
from simserve.deploy.launch import launch
from simserve.deploy.result import Launch

KUBERNETES = "1.37"
WORKLOAD = {
    "arrivals": {"kind": "poisson", "rate_per_s": 1},
    "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}},
    "count": 3,
}


def experiment(**more: Any) -> Experiment:
    return load({"name": "My Chat", "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb", "workload": WORKLOAD, **more})


def objects(found: Launch) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(found.manifests["kubernetes.yaml"]) if one]


def of(found: Launch, kind: str) -> dict[str, Any]:
    return next(one for one in objects(found) if one["kind"] == kind)


def scaled(policy: str, engine: str = "vllm-v1", **params: Any) -> Launch:
    cluster = {"instances": [{"count": 1, "max_count": 4, "boot_s": 60}], "controllers": [{"policy": policy, **params}]}
    return launch(experiment(engine=engine, cluster=cluster))


MANY = {
    "one": {},
    "fp8, two GPUs": {
        "model": {"name": "llama-3.1-8b", "quantisation": "fp8"},
        "cluster": {"instances": [{"parallel": {"tp": 2}, "count": 3}]},
    },
    "apart": {"cluster": {"instances": [{"role": "prefill", "count": 2}, {"role": "decode", "parallel": {"tp": 2}}]}},
    "nodes": {"model": "llama-2-70b", "cluster": {"instances": [{"count": 2, "parallel": {"tp": 8, "pp": 2}}]}},
    "scaled": {"cluster": {"instances": [{"max_count": 3}], "controllers": [{"policy": "hpa", "targets": {"waiting": 2, "ttft_s": 0.7}}]}},
    "AMD": {"hardware": "mi300x"},
}


@pytest.mark.parametrize("engine", ["vllm-v1", "vllm-0.33", "sglang", "sglang-0.5.23", "tensorrt-llm"])
@pytest.mark.parametrize("name", MANY)
def test_every_object_is_one_of_kubernetes(engine: str, name: str) -> None:
    found = objects(launch(experiment(engine=engine, **MANY[name])))
    assert {"Service"} < {one["kind"] for one in found}
    for one in found:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        name = one["metadata"]["name"]
        assert len(name) <= 63 and name == name.lower() and " " not in name


def test_the_schemas_refuse_what_is_wrong() -> None:
    deployment = of(launch(experiment()), "Deployment")
    for change in (
        lambda one: one["spec"].update(replica=3),
        lambda one: one["spec"].pop("selector"),
        lambda one: one["spec"]["template"]["spec"]["containers"][0]["ports"][0].update(containerPort="8000"),
    ):
        wrong = copy.deepcopy(deployment)
        change(wrong)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_a_deployment_holds_the_plan() -> None:
    found = launch(experiment(cluster={"instances": [{"count": 3, "parallel": {"tp": 2}, "boot_s": 90}]}))
    spec = of(found, "Deployment")["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert spec["replicas"] == 3 and container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert [*container["command"], *container["args"]] == list(found.commands[0].argv)
    assert container["image"] == "vllm/vllm-openai:v0.11.0"
    assert spec["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * (90 + 16e9 / 125e6), "twice boot_s and 16 GB at 1 Gbit/s"
    secret = next(one for one in container["env"] if one["name"] == "HF_TOKEN")["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "hf-token", "key": "token", "optional": True}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    selector, labels = of(found, "Service")["spec"]["selector"], spec["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()


def test_devices_are_asked_for_by_their_vendors_names() -> None:
    asked = {name: of(launch(experiment(hardware=name)), "Deployment")["spec"]["template"]["spec"] for name in ("mi300x", "l40s")}
    assert asked["mi300x"]["containers"][0]["resources"]["limits"] == {"amd.com/gpu": "1"} and "tolerations" not in asked["mi300x"]
    assert asked["l40s"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    ascend = of(launch(experiment(hardware="ascend-910b4", engine="vllm-ascend", model="qwen2.5-7b")), "Deployment")["spec"]["template"][
        "spec"
    ]
    assert ascend["containers"][0]["resources"]["limits"] == {"huawei.com/Ascend910": "1"}
    assert "is assumed: compare" in "\n".join(launch(experiment(hardware="mi300x")).notes)


def test_an_image_for_other_devices_is_said() -> None:
    """vLLM's own image has no torch_npu: on an Ascend node such a pod never starts."""
    said = "\n".join(launch(experiment(hardware="ascend-910b")).notes)
    assert "does not run on ascend-910b (huawei.com): state another image (--image), or an engine for such devices" in said
    assert "sglang-ascend, vllm-ascend" in said
    assert "does not run on h100-sxm-80gb" in "\n".join(launch(experiment(engine="vllm-ascend")).notes)
    for fitting in (
        launch(experiment(hardware="ascend-910b", engine="vllm-ascend")),
        launch(experiment(hardware="mi300x"), image="rocm/vllm"),
    ):
        assert "does not run on" not in "\n".join(fitting.notes)


def test_every_bundled_device_has_a_resource() -> None:
    from simserve import resources

    names = {path.stem for path in resources.folder("hardware_profiles").glob("*.yaml")} if hasattr(resources, "folder") else set(devices())
    assert names <= set(devices())


def test_an_instance_over_nodes_is_a_set_whose_pods_know_their_rank() -> None:
    found = launch(experiment(engine="vllm-0.33", model="llama-2-70b", cluster={"instances": [{"parallel": {"tp": 8, "pp": 2}}]}))
    spec = of(found, "StatefulSet")["spec"]
    container = spec["template"]["spec"]["containers"][0]
    env = {one["name"]: one for one in container["env"]}
    assert spec["replicas"] == 2 and spec["podManagementPolicy"] == "Parallel" and container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert env["NODE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("['apps.kubernetes.io/pod-index']")
    assert env["FIRST_NODE"]["value"] == "$(SET_NAME)-0.$(SET_NAME)" and "--headless" in container["command"][2]
    assert "StatefulSet" in "\n".join(found.notes)
    older = launch(experiment(engine="vllm-v1", model="llama-2-70b", cluster={"instances": [{"parallel": {"tp": 8, "pp": 2}}]}))
    assert "Ray" in "\n".join(older.notes), "0.11 cannot be told of nodes by flags"


# ---- autoscalers ----


def test_an_hpa_states_what_the_policy_states() -> None:
    params = {"targets": {"waiting": 2.5, "tokens_per_s": 900}, "scale_down_stabilisation_s": 120, "up_instances": 2, "down_percent": 50}
    found = scaled("hpa", **params, min_instances=2, tolerance=0.2, window_s=30)
    spec = of(found, "HorizontalPodAutoscaler")["spec"]
    kubernetes_validate.validate(of(found, "HorizontalPodAutoscaler"), KUBERNETES, strict=True)
    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (2, 4, "my-chat")
    names = {one["pods"]["metric"]["name"]: one["pods"]["target"] for one in spec["metrics"]}
    assert names["vllm:num_requests_waiting"] == {"type": "AverageValue", "averageValue": "2500m"}
    assert names["vllm:generation_tokens_per_second"]["averageValue"] == "900"
    down, up = spec["behavior"]["scaleDown"], spec["behavior"]["scaleUp"]
    assert down["stabilizationWindowSeconds"] == 120 and down["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 15}]
    assert {"type": "Pods", "value": 2, "periodSeconds": 15} in up["policies"] and up["tolerance"] == "200m"
    assert "replicas" not in of(found, "Deployment")["spec"]
    rules = yaml.safe_load(found.manifests["prometheus-adapter.yaml"])["rules"]["custom"]
    assert {rule["name"]["as"] for rule in rules} == set(names), "each metric that is asked for is there"
    assert any("rate(vllm:generation_tokens_total{<<.LabelMatchers>>}[30s])" in rule["metricsQuery"] for rule in rules)
    assert any("HPAConfigurableTolerance" in note for note in found.notes)


def test_metrics_have_the_names_of_the_engine_and_version() -> None:
    assert "vllm:kv_cache_usage_perc" in scaled("hpa", targets={"kv_usage": 0.7}).manifests["kubernetes.yaml"]
    cluster = {"instances": [{"max_count": 4}], "controllers": [{"policy": "hpa", "targets": {"kv_usage": 0.7}}]}
    old = launch(experiment(cluster=cluster), version="0.8.5")
    assert "vllm:gpu_cache_usage_perc" in old.manifests["kubernetes.yaml"]
    sglang = scaled("hpa", engine="sglang", targets={"waiting": 2})
    assert "sglang:num_queue_reqs" in sglang.manifests["kubernetes.yaml"] and "--enable-metrics" in sglang.commands[0].argv


def test_what_an_engine_does_not_export_is_said() -> None:
    found = scaled("hpa", engine="tensorrt-llm", targets={"waiting": 2})
    assert "autoscaler target waiting: TensorRT-LLM 1.2 does not export it" in "\n".join(found.notes)
    assert "HorizontalPodAutoscaler" not in found.manifests["kubernetes.yaml"]


def test_keda_is_a_scaled_object_with_its_periods() -> None:
    found = scaled("keda", targets={"running": 60}, polling_s=20, cooldown_s=600, activation=1)
    one = of(found, "ScaledObject")
    spec = one["spec"]
    assert one["apiVersion"] == "keda.sh/v1alpha1" and (spec["pollingInterval"], spec["cooldownPeriod"]) == (20, 600)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 4)
    trigger = spec["triggers"][0]["metadata"]
    assert trigger["query"] == 'sum(vllm:num_requests_running{pod=~"my-chat-.*"})'
    assert (trigger["threshold"], trigger["activationThreshold"]) == ("60", "1")
    assert "scaled to zero exports nothing" in "\n".join(found.notes)


@pytest.mark.parametrize(("policy", "params"), [("saturation", {}), ("forecast", {"requests_per_s": 4})])
def test_autoscalers_that_kubernetes_has_not_are_said(policy: str, params: dict[str, Any]) -> None:
    found = scaled(policy, **params)
    assert f"controller {policy}: no plain Kubernetes object does this" in "\n".join(found.notes)
    assert of(found, "Deployment")["spec"]["replicas"] == 1
