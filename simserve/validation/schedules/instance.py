"""A workload's settings in the words of an experiment, and the instance that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simserve.config import engine_profile
from simserve.config.assemble import deployment
from simserve.config.engine_profile import EngineProfile
from simserve.config.experiment import load
from simserve.cost.kv_groups import KvGroup, pool_layout
from simserve.engine import InstanceSpec
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.model import load_model
from simserve.policies import registry
from simserve.validation.schedules.constant_steps import ConstantSteps, StatedDrafts
from simserve.validation.schedules.refusals import Unsupported
from simserve.validation.schedules.workload import ScheduleSettings, ScheduleWorkload

MODEL, HARDWARE = "llama-3.1-8b", "h100-sxm-80gb"
"""Any would do: steps take a stated time, and the KV cache has a stated number of blocks. The model's context is a long one."""

PARAMETERS = {
    "max_num_seqs": "max_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "long_prefill_token_threshold": "long_prefill_token_threshold",
    "chunked": "chunked",
    "adaptive_threshold": "adaptive_threshold",
    "max_active_seqs": "max_active_seqs",
    "reserve_full_prompt": "reserve_full_prompt",
    "prefill_schedule_interval": "prefill_schedule_interval",
    "max_queued": "max_queued",
    "max_queued_tokens": "max_queued_tokens",
    "chunked_prefill_size": "chunked_prefill_size",
    "max_prefill_tokens": "max_prefill_tokens",
    "schedule_conservativeness": "schedule_conservativeness",
    "mixed_chunk": "mixed_chunk",
    "prefill_max_requests": "prefill_max_requests",
}
"""Settings that are parameters of schedulers: those of a policy whose name for them is this one."""

_NO_REQUESTS = {"arrivals": {"kind": "constant", "rate_per_s": 1.0}, "count": 1}
_NO_REQUESTS |= {"lengths": {"prompt": {"kind": "fixed", "tokens": 1}, "output": {"kind": "fixed", "tokens": 1}}}
"""What stands where an experiment states its workload: the requests come from elsewhere."""

_ALWAYS = ("max_num_seqs", "max_num_batched_tokens")
"""Given whether the workload states them or not: what a profile has instead depends on the device."""


def experiment_of(settings: ScheduleSettings, profile_name: str) -> dict[str, Any]:
    """The experiment that has these settings under an engine profile, without its workload. Raises Unsupported for a setting that the
    profile's policy has no key for."""
    profile = engine_profile.load_engine(profile_name)
    policy = profile.scheduler.policy
    assert policy is not None  # every profile names one
    stated, fields = settings.stated(), registry.scheduler_class(policy).Params.model_fields
    scheduler: dict[str, Any] = {}
    if "chunked_prefill_size" in fields and not settings.chunked:  # SGLang's word for it
        scheduler["chunked_prefill_size"] = stated["chunked_prefill_size"] = -1
        stated.pop("chunked")
    if "priority_preemption_threshold" in fields and settings.order == "priority":  # as SGLang's server has it
        scheduler["priority_preemption_threshold"] = 10
    for name, key in PARAMETERS.items():
        if key in scheduler:
            continue
        if key in fields and (name in stated or name in _ALWAYS):
            scheduler[key] = getattr(settings, name)
        elif name in stated and name != "max_num_batched_tokens":
            raise Unsupported(name, f"policy '{policy}' of profile '{profile_name}' has no such rule")
    if settings.order not in registry.order_names():
        raise Unsupported("order", f"no queue discipline is called '{settings.order}'")
    kv: dict[str, Any] = {"blocks": settings.kv_blocks, "block_tokens": settings.block_tokens, "prefix_caching": settings.prefix_caching}
    if settings.watermark:
        kv["watermark"] = settings.watermark
    one: dict[str, Any] = {"count": 1, "scheduler": scheduler, "kv": kv, "max_model_len": settings.max_model_len}
    if settings.order != "fcfs":
        one["order"] = settings.order
    if settings.pipeline_stages > 1:
        one["parallel"] = {"pp": settings.pipeline_stages}
    path = {"per_request_s": 0.0, "per_prompt_token_s": 0.0, "steps_ahead": int(settings.async_scheduling)}
    engine = {"name": profile_name, "request_path": path, "jitter": False}  # steps take the stated time
    cluster = {"instances": [one]}
    return {"name": "schedule", "model": MODEL, "hardware": HARDWARE, "engine": engine, "cluster": cluster, "workload": _NO_REQUESTS}


def instance_of(workload: ScheduleWorkload, profile_name: str) -> InstanceSpec:
    """The instance, with steps of the workload's length.

    Raises Unsupported as `experiment_of`, ConfigError where the settings contradict each other.
    """
    settings = workload.settings
    experiment = load(experiment_of(settings, profile_name))
    model = load_model(MODEL)
    deployed = deployment(experiment, experiment.groups[0], model)
    spec = deployed.instance_spec("simserve", cost=ConstantSteps(workload.step_s, settings.pipeline_stages))
    if settings.kv_windows:
        spec = replace(spec, kv_groups=_groups(settings, experiment.engine, spec.scheduler.params.step_tokens(settings.max_model_len)))
    if settings.speculation_tokens:
        accepted = [request.accepted for request in workload.requests]
        drafts = StatedDrafts(settings.speculation_tokens, accepted, experiment.engine.speculation.rejected_kv)
        spec = replace(spec, speculation=drafts)
    return spec


def _groups(settings: ScheduleSettings, profile: EngineProfile, step_tokens: int) -> KvGroups | None:
    """KV cache groups of equal layers, one for each window."""
    windows = {window: settings.kv_windows.count(window) for window in settings.kv_windows}
    groups = [KvGroup("window" if window else "full", count, window, float(count)) for window, count in sorted(windows.items())]
    layout = pool_layout(groups, profile.memory.windowed_layers, settings.block_tokens, step_tokens)
    return layout and KvGroups(layout.full, tuple(KvWindow(*window) for window in layout.windows), layout.state)
