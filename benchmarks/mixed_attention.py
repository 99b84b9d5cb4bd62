"""Attention of mixed batches: the rule that adds prompts and decodes, and tiles dealt to SMs, against measured mixed kernels.

    python -m benchmarks.mixed_attention [../shared/kernel_profiles] [--every 5]

Prints the table of docs/cost-models.md. The rows are those with a chunk and decodes, which neither rule was fitted on. "Kernels" takes the
profile's models of prompts alone and of decodes alone, which were fitted on the same devices; "estimates" takes the analytic estimates,
whose constants were found on other devices. Tiles are those of FlashAttention-2 over a paged cache: 64 queries of one query head, 128 keys
at a time. Cells: median of the absolute relative error, and its 90th percentile.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from simserve.contracts import Slice, Step
from simserve.cost.cores.attention import TiledAttention
from simserve.cost.cores.options import TaskTable
from simserve.cost.decode import DecodeAttention
from simserve.cost.kernels import KernelChoice
from simserve.cost.prefill import PrefillAttention
from simserve.hardware import load_profile
from simserve.model.operators import Attention

DEVICES = (("rtx_4090", "rtx-4090"), ("rtx_pro_6000", "rtx-pro-6000"))
HEADS = {"meta-llama/Llama-3.1-8B": (32, 8), "Qwen/Qwen3-30B-A3B-Instruct-2507": (32, 4), "Qwen/Qwen3-32B": (64, 8)}
"""Query and KV heads of the measured models, all with 128 elements."""
TILES = TaskTable(
    reorder="first-free", prefill_tile_rows=64, decode_tile_rows=64, key_tile_tokens=128, head_units="query-heads", split_keys=False
)
LONGEST = 32768


class Rules(NamedTuple):
    """What is compared, for one layer."""

    prefill: PrefillAttention
    decode: DecodeAttention
    tiles: TiledAttention

    def seconds(self, step: Step) -> tuple[float, float]:
        """Of a mixed step: prompts and decodes added, tiles."""
        added = self.prefill.seconds(step.slices) + self.decode.seconds(step.decodes, step.context_tokens)
        return added, self.tiles.seconds(step)


def rules(profile: str, model: str, tensor_parallel: int, analytic: bool) -> Rules:
    """The rules for a layer of a measured model on a device."""
    q_heads, kv_heads = (heads // tensor_parallel for heads in HEADS[model])
    layer = Attention("attention", q_heads, kv_heads, 128, 0, "sliding", "bf16")
    kernels = KernelChoice(load_profile(profile), analytic=analytic)
    decode = DecodeAttention(kernels, [(layer, 1)], LONGEST)
    return Rules(PrefillAttention(kernels, [(layer, 1)], LONGEST), decode, TiledAttention(kernels, [(layer, 1)], TILES, LONGEST, decode))


def predicted(rows: pd.DataFrame, both: Rules) -> np.ndarray:
    """Seconds by each rule, shape (rows, 2)."""
    out = []
    for row in rows.itertuples():
        batch, chunk = int(row.decode_batch), Slice(int(row.prefill_chunk_tokens), int(row.prefill_kv_tokens))
        out.append(both.seconds(Step.of([int(row.decode_kv_tokens)] * batch, [chunk])))
    return np.array(out)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("tables", nargs="?", type=Path, default=Path("../shared/kernel_profiles"))
    arguments.add_argument("--every", type=int, default=5, help="take one row in so many")
    given = arguments.parse_args()
    print("| device | model, tp | rows | kernels: added | kernels: tiles | estimates: added | estimates: tiles |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for folder, profile in DEVICES:
        table = pd.read_parquet(given.tables / folder / "attention_mixed_batch.parquet")
        mixed = table[(table["prefill_chunk_tokens"] > 0) & (table["decode_batch"] > 0)].iloc[:: given.every]
        every = []
        for (model, tensor_parallel), rows in mixed.groupby(["model", "tensor_parallel"], observed=True):
            measured = rows["latency_us"].to_numpy()[:, None] * 1e-6
            both = [predicted(rows, rules(profile, str(model), int(tensor_parallel), analytic)) for analytic in (False, True)]
            every.append(np.abs(np.concatenate(both, axis=1) / measured - 1.0))
            print(f"| {folder} | {str(model).split('/')[1]}, {tensor_parallel} | {len(rows):,} | {_cells(every[-1])} |", flush=True)
        print(f"| {folder} | all | {len(mixed):,} | {_cells(np.concatenate(every))} |", flush=True)


def _cells(errors: np.ndarray) -> str:
    medians, nineties = np.median(errors, axis=0), np.quantile(errors, 0.9, axis=0)
    return " | ".join(f"{100 * median:.1f} % ({100 * ninety:.0f})" for median, ninety in zip(medians, nineties, strict=True))


if __name__ == "__main__":
    main()
