"""Exactly the shapes that a model on a given number of ranks runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from simserve.calibration.measure.points import GEMM_DTYPES
from simserve.calibration.measure.sizes import Dimensions, ExpertShape, Layout
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import head_operators, layer_groups, layer_operators
from simserve.model.operators import Attention, Elementwise, Gemm, MoE
from simserve.model.parallel import Parallel

_COMMUNICATION = ("AllReduce", "AllGather", "ExpertExchange")


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes to measure, each with the level it starts at. gemm: (n, k, dtype); experts: (shape, dtype).

    notes   what the models also run and this harness cannot measure, each once
    """

    gemm: dict[tuple[int, int, str], int]
    layouts: dict[Layout, int]
    dimensions: dict[Dimensions, int]
    experts: dict[tuple[ExpertShape, str], int]
    notes: dict[str, None] = field(default_factory=dict)


def shapes_of(models: list[tuple[ModelArchitecture, Parallel]], dtypes: tuple[str, ...] | None) -> Shapes:
    """The shapes of all `models`. `dtypes` replaces the types the models are stored in; None keeps those that PyTorch can multiply."""
    out = Shapes({}, {}, {}, {})
    for model, parallel in models:
        head = head_operators(model, parallel)
        operators = [*head.embedding, *head.output]
        for stage in range(parallel.pp):
            for layer, _ in layer_groups(model, parallel, stage):
                operators += layer_operators(model, parallel, layer)
        for op in operators:
            if isinstance(op, Gemm):
                for dtype in dtypes or (op.dtype,):
                    if dtype in GEMM_DTYPES:
                        out.gemm[op.n, op.k, dtype] = 0
                    else:
                        out.notes[f"{model.name}: GEMMs in {dtype} are not measured (PyTorch alone has no such kernel)"] = None
            elif isinstance(op, Attention):
                out.layouts[Layout(op.q_heads, op.kv_heads, op.head_dim, op.window_tokens)] = 0
            elif isinstance(op, MoE):
                shape = ExpertShape(
                    op.hidden_size, op.intermediate_size, op.experts_per_token, op.num_experts, op.tensor_parallel, op.expert_parallel
                )
                out.experts[shape, op.dtype if op.dtype in ("bf16", "fp16") else "bf16"] = 0
                if op.dtype not in ("bf16", "fp16"):
                    out.notes[f"{model.name}: its experts are stored in {op.dtype} and are measured in bf16"] = None
            elif not isinstance(op, Elementwise) and type(op).__name__ not in _COMMUNICATION:
                out.notes[f"{model.name}: {op.name} is not measured"] = None
        _dimensions(out, model, parallel)
    return out


def _dimensions(out: Shapes, model: ModelArchitecture, parallel: Parallel) -> None:
    mlp = model.intermediate_size if model.intermediate_size > 0 or model.experts is None else model.experts.intermediate_size
    heads, kv_heads = model.num_attention_heads, model.num_kv_heads
    out.dimensions[Dimensions(model.hidden_size, mlp, heads, kv_heads, parallel.tp, model.name, model.head_dim)] = 0
