"""What the steps of a run were made of: a fixed time a step, and a time for each token decoded and each prompt token computed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simserve.engine.records import F64, InstanceInfo, LaneLog, RunRecords, lanes_that_ran


class Work(NamedTuple):
    """Seconds that an instance's steps take, as a straight line, and what it did.

    step_s, decode_s, prompt_s  for each step, each token decoded, each prompt token computed
    steps, decoded, computed  counts over the run: steps, tokens decoded, prompt tokens computed
    slots  most requests of a full batch: sequence slots, or as many as its KV blocks hold
    chunk  most prompt tokens that a step computed
    residual_s  what is left of the step in progress at a random time: a request that comes waits for it
    lanes  batches in flight at once
    """

    step_s: float
    decode_s: float
    prompt_s: float
    steps: float
    decoded: float
    computed: float
    slots: float
    chunk: float
    residual_s: float
    lanes: int

    @property
    def marginal_s(self) -> float:
        """Seconds that tokens took, beside the fixed time of steps; of a lane."""
        return (self.decode_s * self.decoded + self.prompt_s * self.computed) / self.lanes

    @property
    def by_slots(self) -> bool:
        """Whether full batches, rather than full chunks of prompts, bound what it serves."""
        return self.decoded / self.slots >= self.computed / self.chunk

    @property
    def at_full_batches_s(self) -> float:
        """Seconds that the same tokens would take where every batch is full: the least that this instance serves them in."""
        steps = max(self.decoded / self.slots, self.computed / self.chunk)
        return self.marginal_s + self.step_s * steps / self.lanes


def work_of(records: RunRecords) -> list[Work | None]:
    """Of each instance; None where it did nothing."""
    ran = lanes_that_ran(records.lanes, len(records.instances))
    return [_work(lanes, info) if lanes else None for info, lanes in zip(records.instances, ran, strict=True)]


def _work(lanes: list[LaneLog], info: InstanceInfo) -> Work:
    steps = np.concatenate([lane.span_steps for lane in lanes]).astype(np.float64)
    batch = np.concatenate([lane.span_decode_requests for lane in lanes]).astype(np.float64)
    prompt = np.concatenate([lane.sliced()[1] for lane in lanes]).astype(np.float64)
    seconds = np.concatenate([lane.step_end_s[lane.span_first_step + lane.span_steps - 1] - lane.span_start_s for lane in lanes])
    columns = np.stack([steps, steps * batch, prompt], axis=1)
    step_s, decode_s, prompt_s = _line(columns, seconds)
    running = batch + np.concatenate([lane.span_prefill_requests for lane in lanes])
    blocks = np.concatenate([lane.span_kv_blocks for lane in lanes])
    held = float((seconds * blocks).sum() / max((seconds * running).sum(), 1e-12))  # KV blocks of a running request
    slots = float(info.max_seqs) if info.max_seqs > 0 else np.inf
    if info.kv_blocks and held > 0:
        slots = min(slots, info.kv_blocks / held)
    decoded, computed = float(columns[:, 1].sum()), float(prompt.sum())
    residual_s = float((seconds * seconds / steps).sum() / (2.0 * max(seconds.sum(), 1e-12)))
    chunk = max(float(prompt.max()), 1.0)
    return Work(step_s, decode_s, prompt_s, float(steps.sum()), decoded, computed, max(slots, 1.0), chunk, residual_s, len(lanes))


def _line(columns: F64, seconds: F64) -> tuple[float, float, float]:
    """Coefficients, none below 0, by least squares; scaled so that they add up to the time that was taken."""
    kept = [k for k in range(columns.shape[1]) if columns[:, k].any()]
    found = np.zeros(columns.shape[1])
    while kept:
        part = columns[:, kept]
        scale = np.abs(part).max(axis=0)
        normal = (part / scale).T @ (part / scale)
        values = np.linalg.lstsq(normal, (part / scale).T @ seconds, rcond=1e-10)[0] / scale
        if (values >= 0).all():
            found[kept] = values
            break
        kept.pop(int(np.argmin(values * scale)))
    total = float((columns @ found).sum())
    if total > 0:
        found *= float(seconds.sum()) / total
    return float(found[0]), float(found[1]), float(found[2])
