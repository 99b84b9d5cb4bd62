"""Which kernel ran the experts in measured runs of vLLM, where it is not what current versions choose."""

from __future__ import annotations

import re

from simserve.cost.padded_experts import PADDED
from simserve.model import ModelArchitecture

_LAST_WITHOUT_TRITON_KERNELS = 12
"""Minor version of vLLM; looked up in 0.11 and 0.19, in between it is assumed."""

_POWERS_OF_TWO_SINCE, _SKIPS_SINCE, _TRITON_FOR_EIGHT_SINCE = (11, 1), (13, 0), (12, 0)
"""Of 0.x.y: pull requests 26197 (E8M0 on Hopper), 30494 (padded rows are skipped) and 29346 (Triton where tp is 8)."""


def expert_kernel(version: str, model: ModelArchitecture, gpu: str, split: int) -> dict[str, str]:
    """The setting of a case of vLLM on one of these devices; empty where the version runs what the cost model times by itself, or is not
    stated.

    split  devices that share each expert
    """
    found = re.match(r"0\.(\d+)(?:\.(\d+))?", version)
    if found is None or model.experts is None:
        return {}
    release = int(found[1]), int(found[2] or 0)
    stored = model.quantisation.experts
    if "mxfp4" in stored and release[0] <= _LAST_WITHOUT_TRITON_KERNELS:
        return {"expert_kernel": "marlin"}  # mxfp4.py, get_mxfp4_backend: wheels of 0.11 bring no `triton_kernels`, those of 0.19 do
    hopper = gpu.startswith(("h100", "h200", "h800", "h20"))
    padded = _POWERS_OF_TWO_SINCE <= release < _SKIPS_SINCE and not (split == 8 and release >= _TRITON_FOR_EIGHT_SINCE)
    return {"expert_kernel": PADDED} if stored == "fp8_block128" and hopper and padded else {}
