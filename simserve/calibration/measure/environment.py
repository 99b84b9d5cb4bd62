"""environment.json: what the numbers were measured on, and whether the clock stayed where it was."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.random_data import RandomData
from simserve.calibration.measure.timing import TimingRule, time_calls
from simserve.calibration.measure.torch_library import load_optional
from simserve.version import __version__

FILE = "environment.json"
DRIFT_WARNING_PERCENT = 5.0
_SMI_FIELDS = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu,ecc.mode.current,pstate"
_EDGE = {"cpu": 192}
_ACCELERATOR_EDGE = 4096


class ClockCheck:
    """One fixed matrix product, timed now and then: when its time moves, the device's clock moved (heat, power limit, neighbours)."""

    def __init__(self, device: TorchDevice) -> None:
        edge = _EDGE.get(device.kind, _ACCELERATOR_EDGE)
        data = RandomData(device, seed=1)
        a, b = data.one((edge, edge), "bf16"), data.one((edge, edge), "bf16", "weights")
        self._device, self._call = device, partial(device.torch.nn.functional.linear, a, b)
        self._flops = 2.0 * edge**3
        self.samples: list[dict[str, float]] = []

    def take(self, at_s: float) -> None:
        """Time it once more; `at_s` seconds after the start."""
        timing = time_calls(self._device, [self._call], TimingRule(repeats=5, round_s=2e-3), graph=False)
        self.samples.append({"at_s": round(at_s, 1), "tflops": round(self._flops / timing.seconds / 1e12, 4)})

    def drift_percent(self) -> float:
        """How far apart the slowest and the fastest check were, in percent of the fastest. The first one warms the device up: left out."""
        rates = [s["tflops"] for s in self.samples[1:]] or [0.0]
        return 100.0 * (1.0 - min(rates) / max(rates)) if max(rates) else 0.0


def describe(device: TorchDevice) -> dict[str, Any]:
    """Facts of the machine that do not change while measuring."""
    torch = device.torch
    versions = {name: getattr(load_optional(name), "__version__", None) for name in ("flashinfer", "flash_attn", "triton", "pyarrow")}
    return {
        "simserve": __version__,
        "device": device.name,
        "kind": device.kind,
        "index": device.index,
        "devices": device.count,
        "memory_bytes": device.memory_bytes,
        "l2_bytes": device.l2_bytes,
        "sms": device.sms,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host_cores": os.cpu_count(),
        "libraries": {name: version for name, version in versions.items() if version},
        "driver": driver_facts(device),
    }


def driver_facts(device: TorchDevice) -> dict[str, str]:
    """What the driver's tool says now (read only): version, clocks, power limit. Empty where there is no tool."""
    if device.kind != "cuda":
        return {}
    command = ["nvidia-smi", f"--id={device.index}", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_SMI_FIELDS.split(","), (value.strip() for value in answer.strip().split(",")), strict=False))


def write_environment(folder: Path, document: dict[str, Any]) -> None:
    """Write environment.json whole or not at all."""
    partial_path = folder / f".{FILE}.partial"
    partial_path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(partial_path, folder / FILE)
