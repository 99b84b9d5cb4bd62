"""One rank of a process group: waits for a point, runs it with the others, reports its seconds. Runs in a process of its own."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.random_data import TORCH_DTYPE
from simserve.calibration.measure.timing import Call

_WARM_UP = 3
_REPEATS = 11
_MAX_CALLS = 64
_ROUND_S = 2e-3
_LONG_S = 1.0


def serve(kind: str, rank: int, ranks: int, meeting_file: str, pipe: Any) -> None:
    """Join the group through `meeting_file`, then answer points from `pipe` until None comes."""
    import torch.distributed as dist

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its ranks
    try:
        device = TorchDevice(kind, rank if kind != "cpu" else 0)
        backend = {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}[kind]
        dist.init_process_group(backend, init_method=Path(meeting_file).absolute().as_uri(), rank=rank, world_size=ranks)
    except Exception as problem:  # whatever the backend raises is the answer to the parent
        pipe.send(("failed", f"the process group did not start: {_line(problem)}"))
        return
    pipe.send(("ready", ""))
    while (inputs := pipe.recv()) is not None:
        try:
            pipe.send(("ok", _measure(device, dist, rank, ranks, inputs)))
        except Exception as problem:
            pipe.send(("failed", _line(problem)))
    dist.destroy_process_group()


def _measure(device: TorchDevice, dist: Any, rank: int, ranks: int, inputs: dict[str, Any]) -> list[float]:
    """Seconds of one call, for each round. All ranks make the same calls: how many is agreed on first."""
    call = _operation(device, dist, rank, ranks, inputs)
    for _ in range(_WARM_UP):
        call()
    device.synchronize()
    start = time.perf_counter()
    call()
    device.synchronize()
    slowest = device.torch.tensor([time.perf_counter() - start], dtype=device.torch.float32, device=device.device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    estimate_s = max(float(slowest.item()), 1e-6)
    calls = max(1, min(_MAX_CALLS, int(_ROUND_S / estimate_s)))
    repeats = max(3, min(_REPEATS, int(_LONG_S / (estimate_s * calls))))
    run: Call = partial(_several, call, calls)
    if inputs.get("mode") == "graph":
        run = device.capture(run)
        run()
    seconds = []
    for _ in range(repeats):
        dist.barrier()
        device.synchronize()
        begin, end = device.event(), device.event()
        begin.record()
        run()
        end.record()
        seconds.append(device.elapsed_s(begin, end) / calls)
    return seconds


def _several(call: Call, calls: int) -> None:
    for _ in range(calls):
        call()


def _operation(device: TorchDevice, dist: Any, rank: int, ranks: int, inputs: dict[str, Any]) -> Call:
    """`message_bytes` is one rank's buffer; of all_gather and reduce_scatter the larger one, as nccl-tests counts."""
    torch = device.torch
    dtype = getattr(torch, TORCH_DTYPE[inputs["dtype"]])
    elements = max(ranks, inputs["message_bytes"] // dtype.itemsize) // ranks * ranks
    whole = torch.randn(elements, dtype=torch.float32, device=device.device).to(dtype)
    part = torch.empty(elements // ranks, dtype=dtype, device=device.device)
    name = inputs["collective"]
    if name == "all_reduce":
        return partial(dist.all_reduce, whole)
    if name == "all_gather":
        return partial(_newest(dist, "all_gather_single", "all_gather_into_tensor"), whole, part)
    if name == "reduce_scatter":
        return partial(_newest(dist, "reduce_scatter_single", "reduce_scatter_tensor"), part, whole)
    if name == "all_to_all":
        return partial(dist.all_to_all_single, torch.empty_like(whole), whole)
    if rank > 1:
        return lambda: None
    return partial(dist.send, whole, 1) if rank == 0 else partial(dist.recv, whole, 0)


def _newest(dist: Any, name: str, before: str) -> Any:
    """A function under its present name (PyTorch 2.13), or the one it had before."""
    return getattr(dist, name, None) or getattr(dist, before)


def _line(problem: BaseException) -> str:
    text = str(problem).strip()
    return text.splitlines()[0][:200] if text else type(problem).__name__
