"""Which points are measured, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest

from simserve.calibration.fit import MIN_TREE_ROWS
from simserve.calibration.measure import sizes
from simserve.calibration.measure.model_shapes import shapes_of
from simserve.calibration.measure.plan import QUICK_ROWS, Planner
from simserve.calibration.measure.points import OPERATORS
from simserve.model import Parallel, load_model

TREES = ("gemm", "attention_prefill", "attention_decode", "elementwise", "moe")


def planner(kind: str = "cuda", dtypes: tuple[str, ...] = ("bf16",)) -> Planner:
    return Planner(sizes.scale_of(kind), dtypes, ("graph",), ("sdpa",), (2, 4))


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_coarse_points_come_first_and_the_plan_is_always_the_same(kind: str) -> None:
    points = planner(kind).points(OPERATORS, 2)
    assert [p.key for p in points] == [p.key for p in planner(kind).points(OPERATORS, 2)]
    assert len({p.key for p in points}) == len(points)
    assert [p.level for p in points] == sorted(p.level for p in points)
    coarse = planner(kind).points(OPERATORS, 0)
    assert points[: len(coarse)] == coarse
    assert {p.operator for p in coarse} == set(OPERATORS)  # a short time budget still sees every operator
    assert len(coarse) < len(points) / 5


def test_small_sizes_show_tile_edges() -> None:
    counts = sizes.tokens(4096)
    for edge in (8, 16, 64, 128, 256, 2048):
        assert counts[edge] == 0 and counts[edge + 1] <= 1
    assert all(m in counts for m in range(8, 513, 8))
    assert max(counts) == 4096


def test_a_model_needs_exactly_its_own_matrices() -> None:
    shapes = shapes_of([(load_model("llama-3.1-8b"), Parallel(tp=2))], None)
    # fused QKV, output projection, gate and up, down (Llama-3.1-8B: hidden 4096, ffn 14336, 32 and 8 heads of 128), LM head
    want = {(3072, 4096), (4096, 2048), (14336, 4096), (4096, 7168), (64128, 4096)}
    assert {(n, k) for n, k, _ in shapes.gemm} == want
    assert {dtype for _, _, dtype in shapes.gemm} == {"bf16"}
    assert list(shapes.layouts) == [sizes.Layout(16, 4, 128, 0)]
    assert {(p.values["n"], p.values["k"]) for p in planner().points(("gemm",), 2, shapes)} == want


def test_experts_types_and_what_cannot_be_measured() -> None:
    mixtral = shapes_of([(load_model("mixtral-8x7b"), Parallel(tp=2))], None)
    assert list(mixtral.experts) == [(sizes.ExpertShape(4096, 14336, 2, 8, 2, 1), "bf16")]
    deepseek = shapes_of([(load_model("deepseek-v3"), Parallel(tp=8))], None)
    assert any("fp8_block128" in note for note in deepseek.notes) and any("mla" in note for note in deepseek.notes)
    chosen = shapes_of([(load_model("llama-3.1-8b"), Parallel())], ("bf16", "fp8"))
    assert {dtype for _, _, dtype in chosen.gemm} == {"bf16", "fp8"}


def test_rotary_rows_carry_the_width_of_the_query_heads() -> None:
    model = load_model("qwen3-30b-a3b")  # 32 heads of 128 on a hidden size of 2048
    rows = [p.values for p in planner().points(("elementwise",), 0, shapes_of([(model, Parallel())], None))]
    assert {r["hidden_size"] for r in rows if r["op"] == "attn_rope"} == {4096}
    assert {r["hidden_size"] for r in rows if r["op"] == "add"} == {2048}


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
@pytest.mark.parametrize("models", [(), ("llama-3.1-8b",), ("qwen3-30b-a3b",)])
def test_a_quick_measurement_is_enough_to_fit_every_kernel(kind: str, models: tuple[str, ...]) -> None:
    shapes = shapes_of([(load_model(name), Parallel()) for name in models], None) if models else None
    coarse, quick, all_of_it = (
        planner(kind).points(OPERATORS, level, shapes, least=least) for level, least in ((0, 0), (0, QUICK_ROWS), (2, 0))
    )
    assert {p.key for p in coarse} <= {p.key for p in quick} <= {p.key for p in all_of_it}
    assert quick[: len(coarse)] == coarse, "coarse first: a time budget cuts the rest"
    rows = Counter((p.operator, p.values.get("op"), p.values["dtype"]) for p in quick if p.operator in TREES)
    assert min(rows.values()) >= MIN_TREE_ROWS, rows
    assert len(quick) < 0.8 * len(all_of_it)
