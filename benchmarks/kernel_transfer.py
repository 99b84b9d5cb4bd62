"""Transfer of fitted kernels: what the models of one serving engine say about other people's measurements of the same GPU.

    python benchmarks/kernel_transfer.py [../shared/kernel_profiles]

Prints the table of docs/kernel-accuracy.md. For one pair of profile and tables: `simserve validate kernels PROFILE TABLES --backend vllm`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from simserve.calibration.validate import validate_kernels
from simserve.hardware import load_profile

PAIRS = (("a100-sxm-80gb", "a100_sxm"), ("a100-sxm-80gb", "a800_sxm"), ("h100-sxm-80gb", "h100_sxm"), ("h100-sxm-80gb", "h800_sxm"))
"""A800 and H800 are A100 and H100 with a narrower NVLink: kernels on one device are the same."""
ENGINES = ("vllm", "sglang", "trtllm")
OPERATORS = frozenset({"gemm", "attention_prefill", "attention_decode"})
LONG_S = 100e-6
"""Above this the floor of a layer (launches, KV write, profiling overhead), which each source measures differently, matters little."""


def main() -> None:
    tables = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/kernel_profiles")
    print("| measured by | on | operator | rows | predicted by | error | bias | error above 100 us |")
    print("|---|---|---|--:|---|--:|--:|--:|")
    for name, folder in PAIRS:
        profile = load_profile(name)
        for engine in ENGINES:
            rows = validate_kernels(profile, tables / folder, backend=engine, only=OPERATORS).rows
            ours = rows["backend"].str.startswith(ENGINES)
            for (backend, operator, dtype), group in rows[~ours].groupby(["backend", "operator", "dtype"], observed=True):
                ratio = (group["predicted_s"] / group["measured_s"]).to_numpy()
                long = ratio[(group["measured_s"] > LONG_S).to_numpy()]
                cells = f"{_error(ratio)} | {100 * np.expm1(np.log(ratio).mean()):+.0f} % | {_error(long)}"
                print(f"| {backend} | {folder} | {operator} {dtype} | {len(group):,} | {engine} | {cells} |", flush=True)


def _error(ratio: np.ndarray) -> str:
    return f"{100 * np.abs(ratio - 1).mean():.1f} % ({len(ratio):,})" if len(ratio) else "-"


if __name__ == "__main__":
    main()
