"""The kernels that are timed compute what they say: checked against plain arithmetic in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from simserve.calibration.measure.attention_kernels import PLANS, Batch, Heads  # noqa: E402
from simserve.calibration.measure.devices import TorchDevice  # noqa: E402
from simserve.calibration.measure.operators import PREPARE  # noqa: E402
from simserve.calibration.measure.operators.elementwise import add_norm, rope, silu_multiply  # noqa: E402
from simserve.calibration.measure.operators.moe import balanced, experts, grouped_product  # noqa: E402
from simserve.calibration.measure.points import point  # noqa: E402
from simserve.calibration.measure.random_data import RandomData  # noqa: E402
from simserve.calibration.measure.workbench import UnsupportedError, Workbench  # noqa: E402


@pytest.fixture
def cpu() -> TorchDevice:
    return TorchDevice("cpu")


def causal(heads: Heads, batch: Batch, q: Any, k: Any, v: Any, cached: list[tuple[Any, Any]]) -> Any:
    """Attention of each sequence by the formula."""
    out, start = [], 0
    for (new, context), (old_k, old_v) in zip(zip(batch.new_tokens, batch.context_tokens, strict=True), cached, strict=True):
        group = heads.q_heads // heads.kv_heads
        rows = slice(start, start + new)
        keys = torch.cat([old_k, k[rows]]).repeat_interleave(group, 1)
        values = torch.cat([old_v, v[rows]]).repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", q[rows], keys) / heads.head_dim**0.5
        query, key = torch.arange(context, context + new)[:, None], torch.arange(context + new)[None]
        seen = (key <= query) & (key > query - (heads.window_tokens or 10**9))
        out.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), values))
        start += new
    return torch.cat(out)


def fill(plan: Any, batch: Batch, cached: list[tuple[Any, Any]]) -> Any:
    """The plan's cache with the cached tokens in their places."""
    cache = torch.full(plan.cache_shape(), 7.0)
    if not plan.paged:
        for i, (keys, values) in enumerate(cached):
            cache[0, i, :, : len(keys)], cache[1, i, :, : len(keys)] = keys.transpose(0, 1), values.transpose(0, 1)
        return cache
    tables, _ = batch.block_tables(16)
    for table, (keys, values) in zip(tables, cached, strict=True):
        for t in range(len(keys)):
            cache[0, table[t // 16], t % 16], cache[1, table[t // 16], t % 16] = keys[t], values[t]
    return cache


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize(
    ("name", "new", "context"),
    [
        *((name, (1, 1, 1), (9, 9, 9)) for name in ("sdpa", "gather")),
        *((name, (4, 4), (20, 20)) for name in ("sdpa", "gather")),
        *((name, (6, 6), (0, 0)) for name in ("sdpa", "gather")),
        ("gather", (1, 5, 1, 3), (33, 0, 2, 20)),
    ],
)
def test_attention_is_exact_and_writes_the_cache(cpu: TorchDevice, name: str, new: Any, context: Any, window: int) -> None:
    torch.manual_seed(0)
    heads, batch = Heads(4, 2, 16, window, "fp32"), Batch(new, context)
    cached = [(torch.randn(c, 2, 16), torch.randn(c, 2, 16)) for c in context]
    q, k, v = torch.randn(batch.tokens, 4, 16), torch.randn(batch.tokens, 2, 16), torch.randn(batch.tokens, 2, 16)
    plan = PLANS[name](cpu, heads, batch)
    got = plan.run(q, k, v, fill(plan, batch, cached))
    torch.testing.assert_close(got, causal(heads, batch, q, k, v, cached), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", ["torch._grouped_mm", "loop over experts"])
@pytest.mark.parametrize("local", [4, 2])
def test_experts_are_the_weighted_sum_over_the_chosen_ones(kernel: str, local: int) -> None:
    torch.manual_seed(0)
    tokens, count, topk, hidden, width = 10, 4, 2, 32, 16
    x, logits = torch.randn(tokens, hidden).bfloat16(), torch.randn(tokens, count)
    chosen = balanced(tokens, count, topk)
    up, down = torch.randn(local, 2 * width, hidden).bfloat16(), torch.randn(local, hidden, width).bfloat16()
    counts = np.bincount(chosen[chosen < local].ravel(), minlength=local)
    rows = int((chosen < local).sum())
    multiply = grouped_product(torch, kernel, counts)
    got = experts(torch, multiply, x, logits, torch.as_tensor(chosen), rows, local, (up, down), torch.bfloat16)
    scale, want = logits.softmax(-1).topk(topk).values, torch.zeros(tokens, hidden)
    for t in range(tokens):
        for j, e in enumerate(chosen[t]):
            if e < local:
                gate, linear = (up[e].float() @ x[t].float()).chunk(2)
                want[t] += scale[t, j] * (down[e].float() @ (torch.nn.functional.silu(gate) * linear))
    assert float((got - want).norm() / want.norm()) < 0.02


def test_balanced_routing_uses_every_expert_alike() -> None:
    counts = np.bincount(balanced(1000, 128, 8).ravel(), minlength=128)
    assert counts.max() - counts.min() <= 1
    assert all(len(set(row)) == 8 for row in balanced(1000, 128, 8).tolist())


def test_elementwise_functions() -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(3, 8), torch.randn(3, 8)
    normal, total = add_norm(torch, x, residual, torch.full((8,), 2.0))
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normal, 2.0 * total / total.pow(2).mean(-1, keepdim=True).sqrt(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(silu_multiply(torch, x), torch.nn.functional.silu(x[:, :4]) * x[:, 4:])
    turned = rope(torch, torch.randn(5, 2, 8), torch.cos(angle := torch.randn(5, 1, 4)), torch.sin(angle))
    assert turned.shape == (5, 2, 8)
    vector = torch.randn(5, 2, 8)  # a rotation keeps lengths
    turned = rope(torch, vector, torch.cos(angle), torch.sin(angle))
    torch.testing.assert_close(turned.norm(dim=-1), vector.norm(dim=-1))


def test_weights_take_turns_in_more_memory_than_the_cache_holds(cpu: TorchDevice) -> None:
    bench = Workbench(cpu, RandomData(cpu))
    calls = PREPARE["gemm"](bench, point("gemm", 0, m=4, n=512, k=1024, dtype="bf16")).calls
    copies = bench.data.copies((512, 1024), "bf16")
    assert len(copies) == len(calls) > 1
    assert len({c.data_ptr() for c in copies}) == len(copies)
    assert sum(c.nbytes for c in copies) > cpu.l2_bytes
    assert float(copies[0].float().std()) == pytest.approx(1.0, abs=0.05)  # data, not zeros


def test_gemm_dtypes_multiply_right(cpu: TorchDevice) -> None:
    for dtype in ("bf16", "fp16", "fp32", "fp8", "w8a8_int8"):
        bench = Workbench(cpu, RandomData(cpu))
        prepared = PREPARE["gemm"](bench, point("gemm", 0, m=32, n=64, k=48, dtype=dtype))
        x, w = bench.data.one((32, 48), dtype), bench.data.copies((64, 48), dtype)[0]
        want = x.float() @ w.float().t()
        assert float((prepared.calls[0]().float() - want).norm() / want.norm()) < 0.01, dtype
    with pytest.raises(UnsupportedError, match="more than 16 rows"):
        PREPARE["gemm"](bench, point("gemm", 0, m=8, n=64, k=48, dtype="w8a8_int8"))
