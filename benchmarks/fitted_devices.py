"""Fits the bundled profiles of devices whose kernels NVIDIA's aiconfigurator has measured.

    pip install aiconfigurator-core
    python -m benchmarks.fitted_devices b200-sxm [l40s ...] [--tables FOLDER]

Reads the installed tables, keeps what a simulation looks up, fits, and writes `hardware_profiles/<device>.yaml` with its coefficients. The
tables themselves are not part of the repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simserve.calibration.build import build_profile
from simserve.calibration.imports.aiconfigurator import read
from simserve.calibration.imports.table_set import TableSet
from simserve.calibration.split import fraction

if TYPE_CHECKING:
    import pandas as pd

PROFILES = Path(__file__).resolve().parents[1] / "hardware_profiles"


class Source(NamedTuple):
    """A system of aiconfigurator-core 0.12.0, and the backends taken from it.

    older    a backend and the one kernel of it that is taken
    without  a backend, a table and the type whose rows are left out
    """

    system: str
    older: tuple[str, str] | None = None
    without: tuple[str, str, str] | None = None


BACKENDS = ("vllm 0.24.0", "sglang 0.5.14", "trtllm 1.3.0rc20", "nccl-tests, NCCL 2.29.2", "DeepEP, sglang 0.5.12", "trtllm 1.2.0rc6")
"""The newest version of each engine and of NCCL that has whole tables; TensorRT-LLM's exchange over a rack was timed with 1.2.0rc6."""

DEVICES = {
    "b200-sxm": Source("b200_sxm", ("vllm 0.19.0", "vllm_fused_moe")),  # Triton's experts, which vLLM ran before
    # cuBLAS under vLLM ran throttled for half of the large sizes (0.9 to 1.3 PFLOP/s; 1.3 to 1.9 under the others, and on GB300)
    "gb200": Source("gb200", without=("vllm 0.24.0", "gemm", "bf16")),
    "b300-sxm": Source("b300_sxm"),
    "gb300": Source("gb300"),
    "l40s": Source("l40s"),
    "rtx-pro-6000-server": Source("rtx_pro_6000_server"),
}

MOST_ROWS = 12_000
"""Rows of one kernel that are used, drawn by a hash of their inputs: twice as many take 0.1 % off the error."""


def tables(source: Source, folder: Path) -> TableSet:
    """The rows that the profile is fitted on: whole layers of latent attention are left out, the simulator adds kernels up."""
    made = read(folder / source.system if folder != Path() else Path(source.system), None)
    parts = {stem: [_kept(frame, source, stem) for frame in frames] for stem, frames in made.parts.items()}
    made.parts = {stem: [frame for frame in frames if len(frame)] for stem, frames in parts.items() if any(map(len, frames))}
    return made


def _kept(frame: pd.DataFrame, source: Source, table: str) -> pd.DataFrame:
    kept = frame["backend"].isin(BACKENDS)
    if source.older is not None and "kernel" in frame:
        kept |= (frame["backend"] == source.older[0]) & (frame["kernel"] == source.older[1])
    if source.without is not None and source.without[1] == table:
        kept &= (frame["backend"] != source.without[0]) | (frame["dtype"] != source.without[2])
    frame = frame[kept].reset_index(drop=True)
    if "scope" in frame:
        frame = frame[frame["scope"] == "kernel"].reset_index(drop=True)
    of = [c for c in ("dtype", "kv_dtype", "backend", "kernel") if c in frame]
    if frame.empty or "kernel" not in of:
        return frame
    inputs = [c for c in frame.select_dtypes("number") if not str(c).endswith("_us")]
    drawn = fraction(frame.assign(draw=1.0), [*inputs, "draw"]) * frame.groupby(of, observed=True)["latency_us"].transform("size")
    few: pd.DataFrame = frame[drawn < MOST_ROWS]
    return few


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("devices", nargs="+", choices=sorted(DEVICES))
    arguments.add_argument("--tables", type=Path, default=Path(), help="folder of the systems, where the package is not installed")
    given = arguments.parse_args()
    for device in given.devices:
        with tempfile.TemporaryDirectory() as folder:
            tables(DEVICES[device], given.tables).write(Path(folder))
            out = PROFILES / f"{device}.yaml"
            profile, left = build_profile(out, [(Path(folder), None)], out, _say, compact=True)
        print(f"{device}: {len(profile.entries())} fits")
        for reason, rows in sorted(left.items()):
            print(f"  left out {rows:,} rows: {reason}")


if __name__ == "__main__":
    main()
