"""Which fraction of a step's time nothing measured, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.contracts import Step
from simserve.uncertainty.kernels import step_spread

ESTIMATE = "elementwise bf16, roofline estimate"
NORM, ROPE, GEMM = "elementwise fp16, layers input_layernorm", "elementwise fp16, layers attn_rope", "gemm bf16, cublas"


class Stated:
    """A cost model of these spreads, with these parts of every step."""

    def __init__(self, spreads: dict[str, float], missing: list[str], parts: dict[str, float]) -> None:
        self._spreads, self._missing, self._parts = spreads, missing, parts

    def spreads(self) -> dict[str, float]:
        return self._spreads

    def describe(self) -> dict[str, Any]:
        return {"unvalidated": self._missing}

    def breakdown(self, step: Step) -> dict[str, float]:
        return self._parts


PARTS = {"gemm": 7.0, "elementwise": 2.0, "sampler": 0.5, "linear_attention": 0.5}


@pytest.mark.parametrize(
    ("spreads", "missing", "unmeasured"),
    [
        ({GEMM: 0.1, NORM: 0.1}, [], 0.0),
        ({GEMM: 0.1, NORM: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (sampler)"], 0.05),  # the norms were measured
        ({GEMM: 0.1, NORM: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (linear_attention)", f"{ESTIMATE} (sampler)"], 0.1),
        ({GEMM: 0.1, NORM: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (qk_norm)"], 0.1 + 0.1),  # one of two; the sampler is like what there is
        ({GEMM: 0.1, NORM: 0.1, ROPE: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (qk_norm)", f"{ESTIMATE} (gate)", f"{ESTIMATE} (sampler)"], 0.2),
        ({GEMM: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (norm)"], 0.3),
        ({GEMM: 0.1, ESTIMATE: 0.5}, [ESTIMATE], 0.3),
        ({"gemm bf16, roofline estimate": 0.2, "gemm fp8, cublas": 0.1, NORM: 0.1}, ["gemm bf16, roofline estimate"], 0.7),
    ],
)
def test_only_what_was_not_measured_counts(spreads: dict[str, float], missing: list[str], unmeasured: float) -> None:
    found = step_spread(Stated(spreads, missing, PARTS), Step(1, 100, 100))
    assert found is not None and found.unmeasured == pytest.approx(unmeasured)


def test_the_spread_of_an_estimated_sampler_is_not_that_of_measured_norms() -> None:
    parts = {"elementwise": 1.0}
    found = step_spread(Stated({NORM: 0.1, ESTIMATE: 0.5}, [f"{ESTIMATE} (sampler)"], parts), Step(1, 100, 100))
    assert found is not None and found.log == pytest.approx(0.1)
