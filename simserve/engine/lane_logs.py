"""What lanes and instances leave behind: the logs of their steps, what these computed, and what each instance was."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from simserve.engine.instance import Instance
from simserve.engine.lane import Lane
from simserve.engine.records import F64, InstanceInfo, LaneLog, Span


class Totals:
    """What the steps of a run computed: one row a lane of steps, plans, new tokens, (query, key) pairs, and rows that went through the LM
    head."""

    __slots__ = ("of_lane",)

    def __init__(self, lanes: int) -> None:
        self.of_lane = np.zeros((lanes, 5))

    def add(self, lanes: Sequence[LaneLog]) -> None:
        """More steps of all lanes, in their order."""
        if any(len(lane.ticks) or len(lane.layered) or len(lane.verified) for lane in lanes):
            for number, lane in enumerate(lanes):
                self.of_lane[number] += _computed(lane)
            return
        names = (
            "span_decode_requests",
            "span_steps",
            "span_context_tokens",
            *("span_prefill_" + of for of in ("requests", "tokens", "pairs")),
        )
        n, k, context, chunks, prompt, pairs = (np.concatenate([getattr(lane, name) for lane in lanes]) for name in names)
        attended = k * context + n * k * (k - 1) // 2
        ends = np.cumsum([0, *(len(lane.span_steps) for lane in lanes)])
        for column, values in enumerate((k, np.ones_like(k), n * k + prompt, attended + pairs, n * k + chunks)):
            self.of_lane[:, column] += np.diff(np.concatenate([[0], np.cumsum(values)])[ends])  # whole numbers, which add up exactly

    def flops(self, instances: Sequence[Instance]) -> float:
        """FLOPs of the model on what was computed."""
        total = 0.0
        for instance in instances:
            for number in range(instance.lane_offset, instance.lane_offset + len(instance.lanes)):
                _, _, new, attended, rows = self.of_lane[number].tolist()
                total += instance.cost.flops(new, attended) + instance.cost.logits_flops(rows)
        return total


def _computed(lane: LaneLog) -> F64:
    """The row of `Totals` of one lane's steps."""
    decoded = lane.decoded()
    prompts, prompt_tokens, prompt_pairs = lane.computed_prefills()
    new = float(decoded.tokens.sum() + prompt_tokens.sum() + lane.verified[:, 2].sum())
    attended = float(decoded.pairs.sum() + prompt_pairs.sum() + lane.verified[:, 3].sum())
    # The last row of each prompt chunk, and every row that decodes or verifies, goes through the LM head.
    rows = float(decoded.tokens.sum() + prompts.sum() + lane.verified[:, 2].sum())
    return np.array([len(lane.step_end_s), len(lane.span_steps), new, attended, rows])


def lane_log(lane: Lane, step_end_s: F64) -> LaneLog:
    """The log of a lane, of whose steps those that it covers ended at these times."""
    return lane_logs([lane], [step_end_s])[0]


def lane_logs(lanes: Sequence[Lane], step_end_s: Sequence[F64]) -> tuple[LaneLog, ...]:
    """The logs of lanes. They are made together, as views: what numpy does once for each column of each lane costs more than a request."""
    parts = [np.frombuffer(lane.log) if len(lane.log) else np.empty(0) for lane in lanes]
    log = (np.concatenate(parts) if len(parts) > 1 else parts[0]).reshape(-1, len(Span._fields))
    numbers = Span(*log.T)  # of each field, the column
    whole = {name: column.astype(np.int64) for name, column in numbers._asdict().items() if name != "start_s"}
    counts = [len(part) // len(Span._fields) for part in parts]
    edges = np.cumsum([0, *counts]).tolist()
    before = np.concatenate([[0], np.cumsum(whole["steps"])])
    columns = {f"span_{name}": column for name, column in whole.items()} | {
        "span_first_step": before[:-1] - np.repeat(before[edges[:-1]], counts),
        "span_start_s": np.array(numbers.start_s),
        "span_decode_requests": whole["decodes"],
    }
    del columns["span_decodes"]
    return tuple(
        LaneLog(
            instance=lane.instance.index,
            lane=lane.index,
            step_end_s=ends_s,
            ticks=np.array(lane.verified_ticks, dtype=np.int64).reshape(-1, 4),
            layered=np.array(lane.layered, dtype=np.int64).reshape(-1, 3),
            verified=np.array(lane.verified, dtype=np.int64).reshape(-1, 4),
            **{name: column[begin:end] for name, column in columns.items()},
        )
        for lane, ends_s, (begin, end) in zip(lanes, step_end_s, itertools.pairwise(edges), strict=True)
    )


def infos(instances: Sequence[Instance]) -> tuple[InstanceInfo, ...]:
    """What each instance was. Instances that share a cost model share its description: a large cluster is thousands of equal ones."""
    described: dict[int, tuple[dict[str, Any], float]] = {}
    return tuple(_info(instance, described) for instance in instances)


def _info(instance: Instance, described: dict[int, tuple[dict[str, Any], float]]) -> InstanceInfo:
    spec = instance.spec
    key = id(spec.cost)
    if key not in described:
        described[key] = copy.deepcopy(spec.cost.describe()), spec.cost.peak_flops_per_s
    cost, peak_flops_per_s = described[key]
    return InstanceInfo(
        name=spec.name,
        policy=spec.policy_name,
        devices=spec.devices,
        kv_blocks=spec.kv_blocks,
        block_tokens=spec.block_tokens,
        max_seqs=spec.max_seqs,
        peak_flops_per_s=peak_flops_per_s,
        cost=cost,
        prefix_caching=instance.kv.prefix is not None and instance.kv.finds_own is None,
    )
