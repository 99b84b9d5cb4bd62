"""The routed experts of one rank: top-k, permute, grouped gate+up and down products, weighted sum. The router's product is a GEMM apart.

Tokens are spread evenly over experts (`balanced`), and counted over the whole expert-parallel group; a rank multiplies the pairs that
fall on its experts but sorts and combines all of them, as engines without an expert exchange do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.random_data import TORCH_DTYPE
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import Workbench


def balanced(tokens: int, num_experts: int, experts_per_token: int, seed: int = 0) -> Any:
    """Expert of every (token, choice) pair: [tokens, experts_per_token], each expert as often as any other (to within one)."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(num_experts)
    return order[np.arange(tokens * experts_per_token) % num_experts].reshape(tokens, experts_per_token)


def grouped_kernel(torch: Any, kind: str) -> str:
    """How experts are multiplied here: one grouped product where PyTorch has it for this device, else one product an expert."""
    return "torch._grouped_mm" if hasattr(torch, "_grouped_mm") and kind in ("cuda", "cpu") else "loop over experts"


def prepare(bench: Workbench, point: Point) -> Prepared:
    """Columns as in the public tables: `inter_size` of the whole expert, divided by `tensor_parallel`."""
    p = point.values
    torch, dtype, m = bench.torch, p["dtype"], p["num_tokens"]
    local = p["num_experts"] // p["expert_parallel"]
    width = p["inter_size"] // p["tensor_parallel"]
    x = bench.data.one((m, p["hidden_size"]), dtype)
    logits = bench.data.one((m, p["num_experts"]), "fp32", "logits")
    chosen = balanced(m, p["num_experts"], p["topk"])
    ids = torch.as_tensor(chosen, device=bench.device.device)
    rows = int((chosen < local).sum())
    up = bench.data.copies((local, 2 * width, p["hidden_size"]), dtype)
    down = bench.data.copies((local, p["hidden_size"], width), dtype, len(up), "down")
    kernel = grouped_kernel(torch, bench.device.kind)
    counts = np.bincount(chosen[chosen < local].ravel(), minlength=local)
    multiply = grouped_product(torch, kernel, counts)
    out_dtype = getattr(torch, TORCH_DTYPE[dtype])

    def layer(weights: tuple[Any, Any]) -> Any:
        return experts(torch, multiply, x, logits, ids, rows, local, weights, out_dtype)

    calls = [partial(layer, pair) for pair in zip(up, down, strict=True)]
    return Prepared(calls, f"torch top-k and permute, {kernel}")


def grouped_product(torch: Any, kernel: str, counts: Any) -> Any:
    """multiply(rows, weights [experts, n, k], ends) of rows sorted by expert; `counts` rows an expert, as the loop needs them."""
    if kernel == "torch._grouped_mm":
        return lambda rows, weights, ends: torch._grouped_mm(rows, weights.transpose(1, 2), ends)
    sizes = [int(c) for c in counts]

    def loop(rows: Any, weights: Any, ends: Any) -> Any:
        parts = rows.split(sizes)
        return torch.cat([torch.nn.functional.linear(part, w) for part, w in zip(parts, weights, strict=True)])

    return loop


def experts(
    torch: Any, multiply: Any, x: Any, logits: Any, ids: Any, rows: int, local: int, weights: tuple[Any, Any], out_dtype: Any
) -> Any:
    """One fused expert layer: x [tokens, hidden] -> [tokens, hidden]; `rows` pairs fall on the `local` experts of this rank.

    The top-k of `logits` is computed for its time and its weights; the experts are those of `ids`, whose counts are known beforehand.
    """
    scale = torch.topk(torch.softmax(logits, -1), ids.shape[1]).values
    flat = ids.reshape(-1)
    order = torch.argsort(flat)
    source = torch.div(order[:rows], ids.shape[1], rounding_mode="floor")
    ends = torch.searchsorted(flat[order], torch.arange(1, local + 1, device=flat.device)).to(torch.int32)
    hidden = multiply(x[source], weights[0], ends)
    gate, up = hidden.chunk(2, -1)
    result = multiply(torch.nn.functional.silu(gate) * up, weights[1], ends)
    result = result * scale.reshape(-1)[order[:rows]].to(out_dtype)[:, None]
    return torch.zeros_like(x).index_add_(0, source, result)
