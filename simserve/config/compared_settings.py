"""Settings of an instance with which no schedule was compared, or not all were equal: what is verified of a profile does not hold there."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.config.engine_profile import EngineProfile
from simserve.config.instances import InstanceGroup
from simserve.config.verified_schedules import VerifiedVersion

VARIED = frozenset(
    {
        "max_seqs",
        "max_num_batched_tokens",
        "long_prefill_token_threshold",
        "chunked",
        "adaptive_threshold",
        "max_active_seqs",
        "reserve_full_prompt",
        "prefill_schedule_interval",
        "max_queued",
        "max_queued_tokens",
        "chunked_prefill_size",
        "max_prefill_tokens",
        "schedule_conservativeness",
        "mixed_chunk",
        "prefill_max_requests",
        "priority_preemption_threshold",
    }
)
"""Parameters of schedulers that workloads vary; another one holds as the profile has it."""

KV_RULES = ("watermark_rule", "preemption", "prefix_match", "eviction")
"""Keys of `kv` that are rules; the rest are sizes, which workloads vary."""

ORDER_KINDS: dict[str, tuple[str, ...]] = {"priority": ("priority", "sglang-priority"), "longest-prefix": ("sglang-lpm",)}


def not_as_compared(group: InstanceGroup, engine: EngineProfile, versions: Sequence[VerifiedVersion], windows: bool = False) -> list[str]:
    """Keys of `group` that make its schedules others than those that were equal: rules that are not the profile's, and settings whose
    kind of workload was not equal under any version. `windows`: its model keeps different tokens in different layers."""
    profile = type(group.params)(**engine.scheduler.model_dump(exclude={"policy"}, exclude_none=True)).model_dump()
    stated = group.params.model_dump()
    found = [f"scheduler.{key}" for key in stated if key not in VARIED and stated[key] != profile[key]]
    found += [f"kv.{key}" for key in KV_RULES if getattr(group.kv, key) not in (None, getattr(engine.kv, key))]
    equal = {name for version in versions for name, kind in version.kinds.items() if 0 < kind.equal == kind.of}

    def needs(key: str, stated: bool, *kinds: str) -> None:
        if stated and equal.isdisjoint(kinds):
            found.append(key)

    needs("order", group.order != "fcfs", *ORDER_KINDS.get(group.order, ()))
    needs("role", group.role != "mixed")
    needs("parallel.pp", group.parallel.pp > 1, "pipeline")
    needs("speculation", group.speculation is not None, "speculation")
    needs("model (layers with windows or a state)", windows, "window")
    needs("engine.request_path.steps_ahead", engine.request_path.steps_ahead > 0, "asynchronous", "sglang-overlap")
    return found
