"""A tiny first-come-first-served batching server: valid RunRecords, and the token times of every request written down one by one."""

from __future__ import annotations

from collections import deque

import numpy as np

from simserve.engine.records import Emissions, InstanceInfo, LaneLog, RequestColumns, RunRecords, Status
from simserve.workload.requests import Labels, RequestTable


def serve(
    arrival_s,
    prompt,
    output,
    *,
    slots=8,
    stall_every=0,
    classes=None,
    end_s=None,
    step_s=0.01,
    per_request_s=0.001,
    kv_blocks=1000,
    describe=None,
):
    """(records, token times per request). Each step prefills every waiting request that finds a sequence slot and decodes the others.

    Every `stall_every` steps the newest decoding request loses its sequence slot, waits, and comes back as if from swap: its tokens then
    begin at a tick, without a prefill token.
    """
    n = len(arrival_s)
    labels = Labels(np.array(classes[0], dtype=np.int16), classes[1]) if classes else None
    table = RequestTable.build(np.asarray(arrival_s, float), np.asarray(prompt), np.asarray(output), slo_class=labels)
    waiting, running, left = deque(), [], [int(k) for k in output]
    times = [[] for _ in range(n)]
    scheduled, first, finish = (np.full(n, np.nan) for _ in range(3))
    preemptions = np.zeros(n, dtype=np.int64)
    status = np.zeros(n, dtype=np.int8)
    reason = np.zeros(n, dtype=np.int16)
    segments, open_segment = [], {}
    steps, now, tick, nxt = [], 0.0, 0, 0
    stalled = deque()
    while True:
        if not (waiting or running or stalled):
            if nxt == n:
                break
            now = max(now, arrival_s[nxt])
        while nxt < n and arrival_s[nxt] <= now:
            if output[nxt] == 0:
                status[nxt], reason[nxt], finish[nxt] = Status.FAILED, 1, arrival_s[nxt]
            else:
                waiting.append(nxt)
            nxt += 1
        if not (waiting or running or stalled):
            continue
        if end_s is not None and now >= end_s:
            break
        queued = len(waiting)
        if stall_every and len(steps) % stall_every == stall_every - 1 and len(running) > 1:
            victim = running.pop()
            preemptions[victim] += 1
            segments.append((victim, *open_segment.pop(victim), tick - 1))
            stalled.append((victim, len(steps) + 3))
        while stalled and stalled[0][1] <= len(steps) and len(running) < slots:
            victim = stalled.popleft()[0]
            running.append(victim)
            open_segment[victim] = (np.nan, tick)
        new = []
        while waiting and len(running) + len(new) < slots:
            request = waiting.popleft()
            new.append(request)
            scheduled[request] = now
        decoding = list(running)
        start, now = now, now + step_s + per_request_s * (len(decoding) + len(new)) + 1e-6 * int(sum(prompt[r] for r in new))
        steps.append((start, now, len(decoding), len(new), int(sum(prompt[r] for r in new)), len(decoding) + len(new), queued))
        for request in decoding + new:
            times[request].append(now)
            left[request] -= 1
        for request in new:
            first[request] = now
            open_segment[request] = (now, tick)
            running.append(request)
        if decoding:
            tick += 1
            for request in new:
                open_segment[request] = (now, tick)
        for request in [r for r in running if left[r] == 0]:
            running.remove(request)
            finish[request] = now
            status[request] = Status.COMPLETED
            segments.append((request, *open_segment.pop(request), tick - 1))
    segments += [(request, *begun, tick - 1) for request, begun in open_segment.items()]
    columns = np.array(steps, dtype=float).reshape(-1, 7)
    whole = columns[:, 2:].astype(np.int64)
    count = len(steps)
    lane = LaneLog(
        instance=0, lane=0, step_end_s=columns[:, 1].copy(), span_first_step=np.arange(count), span_steps=np.ones(count, dtype=np.int64),
        span_start_s=columns[:, 0].copy(), span_decode_requests=whole[:, 0], span_context_tokens=whole[:, 0] * 100,
        span_prefill_requests=whole[:, 1],
        span_prefill_tokens=whole[:, 2], span_prefill_pairs=whole[:, 2] ** 2 // 2, span_kv_blocks=whole[:, 3] * 10,
        span_waiting=whole[:, 4],
    )  # fmt: skip
    segments.sort(key=lambda s: (s[2], s[0]))
    part = list(zip(*segments, strict=True)) if segments else [[], [], [], []]
    emissions = Emissions(
        np.array(part[0], dtype=np.int64), np.zeros(len(segments), dtype=np.int64), np.array(part[1], dtype=float),
        np.array(part[2], dtype=np.int64), np.array(part[3], dtype=np.int64),
    )  # fmt: skip
    zeros = np.zeros(n, dtype=np.int64)
    released = np.asarray(arrival_s, float).copy()
    requests = RequestColumns(
        released, scheduled, first, finish, status, reason, np.where(np.isnan(scheduled), -1, 0).astype(np.int32),
        np.array([len(t) for t in times], dtype=np.int64), preemptions, zeros, zeros.copy(), zeros.copy(), ("", "failed at source"),
    )  # fmt: skip
    cost = describe or {"model": "toy-7b", "hardware": "toy-gpu", "engine": "toy-engine 1.0", "unvalidated": ["attention_decode"]}
    info = InstanceInfo("i0", "fcfs", 1, kv_blocks, 16, slots, 1e15, cost)
    counters = {"steps": float(count), "useful_flops": 1e12 * count}
    end_s = float(max(now, np.nanmax(released, initial=0.0)))
    return RunRecords(table, requests, (lane,), emissions, (info,), end_s, counters=counters), times


def poisson(n, rate_per_s, seed=0, mean_output=60):
    """Random arrivals, prompts and outputs."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.cumsum(rng.exponential(1 / rate_per_s, n)), rng.integers(1, 500, n), 1 + rng.poisson(mean_output, n)
