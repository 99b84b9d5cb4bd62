"""What lanes and instances leave behind: the logs of their steps, what these computed, and what each instance was."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from simserve.engine.instance import Instance
from simserve.engine.lane import Lane
from simserve.engine.records import F64, InstanceInfo, LaneLog, Span


class Totals:
    """What the steps of a run computed, by lane: steps, plans, new tokens, (query, key) pairs, and rows that went through the LM head."""

    __slots__ = ("of_lane",)

    def __init__(self) -> None:
        self.of_lane: dict[int, F64] = {}

    def add(self, lanes: Sequence[LaneLog]) -> None:
        """More steps of all lanes, in their order."""
        for number, lane in enumerate(lanes):
            decoded = lane.decoded()
            prompts, prompt_tokens, prompt_pairs = lane.computed_prefills()
            new = float(decoded.tokens.sum() + prompt_tokens.sum() + lane.verified[:, 2].sum())
            attended = float(decoded.pairs.sum() + prompt_pairs.sum() + lane.verified[:, 3].sum())
            # The last row of each prompt chunk, and every row that decodes or verifies, goes through the LM head.
            rows = float(decoded.tokens.sum() + prompts.sum() + lane.verified[:, 2].sum())
            more = np.array([len(lane.step_end_s), len(lane.span_steps), new, attended, rows])
            self.of_lane[number] = self.of_lane.get(number, 0.0) + more

    def flops(self, instances: Sequence[Instance]) -> float:
        """FLOPs of the model on what was computed."""
        total = 0.0
        for instance in instances:
            for number in range(instance.lane_offset, instance.lane_offset + len(instance.lanes)):
                _, _, new, attended, rows = self.of_lane[number].tolist()
                total += instance.cost.flops(new, attended) + instance.cost.logits_flops(rows)
        return total


def lane_log(lane: Lane, step_end_s: F64) -> LaneLog:
    """The log of a lane, of whose steps those that it covers ended at these times."""
    log = np.frombuffer(lane.log, dtype=np.float64).reshape(-1, len(Span._fields)) if len(lane.log) else np.empty((0, len(Span._fields)))
    numbers = Span(*log.T)  # of each field, the column
    whole = {name: column.astype(np.int64) for name, column in numbers._asdict().items() if name != "start_s"}
    return LaneLog(
        instance=lane.instance.index,
        lane=lane.index,
        step_end_s=step_end_s,
        span_first_step=np.cumsum(whole["steps"]) - whole["steps"],
        span_start_s=np.array(numbers.start_s),
        span_decode_requests=whole.pop("decodes"),
        ticks=np.array(lane.verified_ticks, dtype=np.int64).reshape(-1, 4),
        layered=np.array(lane.layered, dtype=np.int64).reshape(-1, 3),
        verified=np.array(lane.verified, dtype=np.int64).reshape(-1, 4),
        **{f"span_{name}": column for name, column in whole.items()},
    )


def infos(instances: Sequence[Instance]) -> tuple[InstanceInfo, ...]:
    """What each instance was. Instances that share a cost model share its description: a large cluster is thousands of equal ones."""
    described: dict[int, dict[str, Any]] = {}
    return tuple(_info(instance, described) for instance in instances)


def _info(instance: Instance, described: dict[int, dict[str, Any]]) -> InstanceInfo:
    spec = instance.spec
    key = id(spec.cost)
    if key not in described:
        described[key] = copy.deepcopy(spec.cost.describe())
    return InstanceInfo(
        name=spec.name,
        policy=spec.policy_name,
        devices=spec.devices,
        kv_blocks=spec.kv_blocks,
        block_tokens=spec.block_tokens,
        max_seqs=spec.max_seqs,
        peak_flops_per_s=spec.cost.peak_flops_per_s,
        cost=described[key],
        prefix_caching=instance.kv.prefix is not None and instance.kv.finds_own is None,
    )
