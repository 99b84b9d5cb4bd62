"""Norms, rotary embedding, activation, residual add, embedding lookup. Engines fuse each into one kernel; torch.compile does so here."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.torch_library import load_optional
from simserve.calibration.measure.workbench import Workbench

OPS = ("input_layernorm", "post_attention_layernorm", "attn_rope", "mlp_act", "add", "emb")
_ROWS_OF_EMBEDDING = 32000


def prepare(bench: Workbench, point: Point) -> Prepared:
    """The columns are a model's dimensions, as in the public tables; a rank's width follows from them."""
    p = point.values
    m, op, tp = p["num_tokens"], p["op"], p["tensor_parallel"]
    data, dtype = bench.data, p["dtype"]
    if op == "emb":
        table = data.one((_ROWS_OF_EMBEDDING, p["hidden_size"]), dtype, "weights")
        ids = bench.torch.randint(0, _ROWS_OF_EMBEDDING, (m,), device=bench.device.device)
        return Prepared([partial(bench.torch.nn.functional.embedding, ids, table)], "torch")
    if op == "attn_rope":
        head_dim = p["hidden_size"] // p["num_heads"]
        inputs = data.copies((m, (p["num_heads"] + p["num_kv_heads"]) // tp, head_dim), dtype)
        angles = data.one((2, m, 1, head_dim // 2), dtype)
        run, kernel = _fused(bench, "rope")
        return Prepared([partial(run, bench.torch, x, angles[0], angles[1]) for x in inputs], kernel)
    if op == "mlp_act":
        inputs = data.copies((m, 2 * p["mlp_hidden_size"] // tp), dtype)
        run, kernel = _fused(bench, "silu_multiply")
        return Prepared([partial(run, bench.torch, x) for x in inputs], kernel)
    inputs, residual = data.copies((m, p["hidden_size"]), dtype), data.one((m, p["hidden_size"]), dtype)
    if op == "add":
        return Prepared([partial(bench.torch.add, x, residual) for x in inputs], "torch")
    weight = data.one((p["hidden_size"],), dtype, "norm")
    run, kernel = _fused(bench, "add_norm")
    return Prepared([partial(run, bench.torch, x, residual, weight) for x in inputs], kernel)


def rope(torch: Any, x: Any, cosine: Any, sine: Any) -> Any:
    """Rotary embedding of [tokens, heads, head_dim] in halves (GPT-NeoX style)."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


def silu_multiply(torch: Any, x: Any) -> Any:
    """SwiGLU's product of a fused gate and up projection."""
    gate, up = x.chunk(2, -1)
    return torch.nn.functional.silu(gate) * up


def add_norm(torch: Any, x: Any, residual: Any, weight: Any) -> tuple[Any, Any]:
    """RMSNorm with the residual add, as engines fuse it: the normalised sum and the sum."""
    total = x + residual
    return torch.nn.functional.rms_norm(total, (total.shape[-1],), weight), total


_PLAIN: dict[str, Callable[..., Any]] = {"rope": rope, "silu_multiply": silu_multiply, "add_norm": add_norm}


def fused(torch: Any, kind: str, name: str) -> tuple[Callable[..., Any], str]:
    """The function, compiled into one kernel on devices with Triton, and how it runs (`torch.compile` or `torch`)."""
    if kind == "cuda" and load_optional("triton") is not None:
        compiled = _compiled(torch, name)
        if compiled is not None:
            return compiled, "torch.compile"
    return _PLAIN[name], "torch"


@lru_cache(maxsize=8)
def _compiled(torch: Any, name: str) -> Callable[..., Any] | None:
    """None when the compiler does not work here (no C compiler, Triton for another PyTorch)."""
    for limit in ("recompile_limit", "cache_size_limit"):  # beyond it dynamo would quietly run the unfused kernels
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, 64)
    compiled: Callable[..., Any] = torch.compile(_PLAIN[name], dynamic=True)
    x = torch.ones((4, 4, 32), dtype=torch.bfloat16, device="cuda")
    try:
        compiled(torch, *{"rope": (x, x[:, :1, :16], x[:, :1, :16]), "silu_multiply": (x,), "add_norm": (x, x, x[0, 0])}[name])
    except Exception:  # the compiler's own kinds, of Triton, Inductor and the C compiler
        return None
    return compiled


def _fused(bench: Workbench, name: str) -> tuple[Callable[..., Any], str]:
    return fused(bench.torch, bench.device.kind, name)
