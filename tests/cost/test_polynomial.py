"""Step times from published coefficients: the arithmetic, the contract, the file, the experiment key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.contracts import Slice, Step
from simserve.cost import coefficients
from simserve.cost.polynomial import PolynomialCost
from simserve.cost.step import StepCost
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

AUTHORS = coefficients.read(coefficients.FOLDER / "distserve-a100.json")
EXPERIMENT: dict[str, Any] = {
    "model": "opt-13b",
    "hardware": "a100-sxm-80gb",
    "engine": "vllm-v0",
    "cost": {"polynomial": "distserve-a100"},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 2},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}},
        "count": 20,
    },
}


def cost(model: str = "opt-13b", **parallel: int) -> PolynomialCost:
    return PolynomialCost(load_model(model), load_profile("a100-sxm-80gb"), Parallel(**parallel), AUTHORS)


def test_the_published_arithmetic() -> None:
    # OPT-13B on two A100s, prompts of 500 and 1000 tokens: 14.7 + 0.0686 x 1500 + 2.45e-6 x 1,250,000 ms; the engine's 2 + 1e-4 x 1500.
    prefill = cost(tp=2).step_time(Step(0, 0, 0, [Slice(500, 0), Slice(1000, 0)]))
    assert prefill == pytest.approx((14.7 + 102.9 + 3.0625 + 2.0 + 0.15) * 1e-3, rel=1e-12)
    # Ten requests attending 8,000 tokens on one A100: 19.9 + 6.27e-4 x 8000 + 0.0385 x 10, and 2 + 0.8.
    assert cost().step_time(Step(10, 8000, 900, [])) == pytest.approx((19.9 + 5.016 + 0.385 + 2.8) * 1e-3, rel=1e-12)
    # From 95 requests on the other regime: 7.17 + 5.8e-4 x 40,000 + 0.158 x 95, and 2 + 4.
    assert cost().step_time(Step(95, 40_000, 900, [])) == pytest.approx((7.17 + 23.2 + 15.01 + 6.0) * 1e-3, rel=1e-12)


@pytest.mark.parametrize("steps", [3, 200])
def test_runs_of_decode_steps_are_the_single_steps_bit_for_bit(steps: int) -> None:
    one = cost()
    run = list(one.decode_times(Step(7, 1234, 300), steps))
    assert run == [one.step_time(Step(7, 1234 + 7 * i, 300 + i)) for i in range(steps)]


def test_chunks_of_a_prompt_add_up_to_its_quadratic_term() -> None:
    one = cost()

    def squares(pieces: list[Slice]) -> float:
        fixed = (18.1 + 2.0) * len(pieces) + (0.1019 + 1e-4) * sum(p.new_tokens for p in pieces)
        return sum(one.step_time(Step(0, 0, 0, [p])) for p in pieces) * 1e3 - fixed

    whole, chunks = [Slice(1500, 0)], [Slice(700, 0), Slice(800, 700)]
    assert squares(chunks) == pytest.approx(squares(whole)) and squares(whole) == pytest.approx(7.12e-6 * 1500**2)


def test_stages_share_the_time_and_the_first_has_the_engine() -> None:
    piece = [Slice(1000, 0)]
    first, second = cost(pp=2).stage_times(Step(0, 0, 0, piece))
    assert first + second == pytest.approx(cost().step_time(Step(0, 0, 0, piece)))
    assert first - second == pytest.approx(2.1e-3)


@pytest.mark.parametrize("layout", [{}, {"tp": 2}, {"pp": 2}])
def test_copies_and_arithmetic_are_those_of_the_model_and_not_of_the_fit(layout: dict[str, int]) -> None:
    fitted = cost(**layout)
    priced = StepCost(load_model("opt-13b"), load_profile("a100-sxm-80gb"), None, Parallel(**layout), max_context_tokens=4096)
    for tokens in (1, 100, 5000):
        assert fitted.swap_time(tokens) == priced.swap_time(tokens) > fitted.swap_time(0) >= 0
    assert fitted.flops(10, 200) == priced.flops(10, 200) and fitted.peak_flops_per_s == priced.peak_flops_per_s
    per_token = 2 * 40 * 5120 * 2 / (layout.get("tp", 1) * layout.get("pp", 1))
    link = 0.78 * load_profile("a100-sxm-80gb").device.host.bytes_per_s
    assert fitted.swap_time(5000) - fitted.swap_time(4000) == pytest.approx(1000 * per_token / link)


def test_the_parts_of_a_step() -> None:
    chunk = [Slice(500, 100)]
    for step in (Step(10, 8000, 900), Step(10, 8000, 900, chunk), Step(0, 0, 0, chunk), Step(95, 40_000, 900, chunk)):
        parts = cost().breakdown(step)
        assert sum(parts.values()) == pytest.approx(cost().step_time(step)) and all(seconds > 0 for seconds in parts.values())
        assert ("prefill" in parts, "decode" in parts) == (bool(step.slices), step.decodes > 0)
    alone = cost().breakdown(Step(0, 0, 0, chunk))["prefill"]
    assert cost().breakdown(Step(10, 8000, 900, chunk))["prefill"] == alone


def test_a_mixed_step_by_hand() -> None:
    """A chunk of 500 tokens after 100 beside ten requests attending 8,000: the prefill's 18.1 + 0.1019 x 500 + 7.12e-6 x (500^2 + 2 x 500 x
    100), of the decode's fixed 19.9 what is above 18.1, 6.27e-4 x 8000 + 0.0385 x 10, and the engine's 2 + 1e-4 x 8,500 ms."""
    chunk = [Slice(500, 100)]
    prefill = 18.1 + 0.1019 * 500 + 7.12e-6 * (250_000 + 100_000)
    mixed = cost().step_time(Step(10, 8000, 900, chunk))
    assert mixed == pytest.approx((prefill + 1.8 + 5.016 + 0.385 + 2.85) * 1e-3, rel=1e-12)
    # In the other regime the decode's fixed part, 7.17, is the smaller one.
    many = cost().step_time(Step(95, 40_000, 900, chunk))
    assert many == pytest.approx((prefill + 23.2 + 15.01 + 2.0 + 4.05) * 1e-3, rel=1e-12)
    # One of four groups of layers computes a quarter of the chunk.
    quarter = cost().step_time(Step(0, 0, 0, [Slice(500, 100, (1, 4))]))
    assert quarter == pytest.approx((18.1 + (0.1019 * 500 + 7.12e-6 * 350_000) / 4 + 2.05) * 1e-3, rel=1e-12)


def test_a_mixed_step_is_dearer_than_its_parts_and_cheaper_than_both_in_turn() -> None:
    one, piece = cost(), [Slice(300, 0)]
    mixed, prefill, decode = (
        one.step_time(Step(8, 4000, 600, piece)),
        one.step_time(Step(0, 0, 0, piece)),
        one.step_time(Step(8, 4000, 600, [])),
    )
    assert max(prefill, decode) < mixed < prefill + decode
    assert sum(one.breakdown(Step(8, 4000, 600, piece)).values()) == pytest.approx(mixed)


def test_every_published_fit_is_physical() -> None:
    """More work takes longer, more devices take less."""
    for name in coefficients.names():
        for entry in coefficients.read(coefficients.FOLDER / f"{name}.json").layouts:
            assert all(term > 0 for terms in (entry.prefill_ms, entry.decode_ms, entry.large_decode_ms or (1,)) for term in terms)
    for model, degrees in (("opt-13b", (1, 2, 4)), ("opt-66b", (2, 4, 8))):
        times = [cost(model, tp=tp).step_time(Step(0, 0, 0, [Slice(1000, 0)])) for tp in degrees]
        assert times == sorted(times, reverse=True) and len(set(times)) == 3


@pytest.mark.parametrize(
    ("model", "tp", "tokens"), [("opt-13b", 1, 66_144), ("opt-13b", 2, 163_008), ("opt-66b", 4, 78_496), ("opt-66b", 8, 212_304)]
)
def test_our_kv_capacity_is_the_one_the_authors_profiled(model: str, tp: int, tokens: int) -> None:
    """Their max_num_tokens, at 95 % of the memory: ours is counted from the architecture alone."""
    group = {"parallel": {"tp": tp}, "scheduler": {"policy": "distserve"}, "kv": {"memory_utilisation": 0.95}}
    changes = {"model": model, "cluster.instances": [group]}
    (instance,) = assemble(load(EXPERIMENT, changes)).instances
    assert instance.kv_blocks * instance.block_tokens == pytest.approx(tokens, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cost": {"polynomial": "distserve-a10"}}, "did you mean 'distserve-a100'"),
        ({"cost": {"polynomial": "mine.json"}}, "no such file"),
        ({"cost": {"kernels": 1}}, "polynomial"),
        ({"model": "llama-2-7b"}, "know nothing of the model 'llama-2-7b'"),
        ({"cluster.instances": [{"parallel": {"tp": 5}}]}, "tp 1, 2, 4; found tp 5"),
        ({"hardware": "h100-sxm-80gb"}, "measured on a100-sxm-80gb"),
        ({"model": {"name": "opt-13b", "quantisation": "fp8"}}, "quantisation and options do not apply"),
    ],
)
def test_what_the_coefficients_do_not_cover_is_said(changes: dict[str, Any], text: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=text):
        assemble(load(EXPERIMENT, changes))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prefill_ms": [0.0, 1.0, 1.0]}, "prefill_ms"),
        ({"decode_ms": [1.0, -1e-9, 1.0]}, "decode_ms"),
        ({"tp": 0}, "tp"),
        ({"prefil_ms": [1, 1, 1]}, "prefil_ms"),
    ],
)
def test_a_wrong_file_names_the_place(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    entry = {"model": "opt-13b", "tp": 1, "prefill_ms": [1, 0.1, 0], "decode_ms": [1, 0, 0], **change}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"source": "me", "hardware": "a100-sxm-80gb", "layouts": [entry]}))
    with pytest.raises(ConfigError, match=rf"mine\.json: layouts\.0\.{text}"):
        coefficients.read(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"mine\.json: line 1, column 2: not valid JSON"):
        coefficients.read(path)


def test_a_file_of_ones_own_beside_the_experiment(tmp_path: Path) -> None:
    """The time of the first token is the file's, wherever the experiment is resolved to; a change of the file changes the fingerprint."""
    path = tmp_path / "mine.json"
    entry = {"model": "opt-13b", "tp": 1, "prefill_ms": [250, 0, 0], "decode_ms": [1, 0, 0]}
    path.write_text(json.dumps({"source": "me", "hardware": "a100-sxm-80gb", "layouts": [entry]}))
    experiment = load(EXPERIMENT, {"cost": {"polynomial": "mine.json"}}, base_dir=tmp_path)
    (instance,) = assemble(load(experiment.resolved())).instances
    assert instance.cost.step_time(Step(0, 0, 0, [Slice(100, 0)])) == 0.25
    before = experiment.fingerprint()
    path.write_text(path.read_text().replace("250", "260"))
    assert experiment.fingerprint() != before


def test_a_result_says_whose_coefficients_these_are() -> None:
    from simserve.api import run

    summary = run(load(EXPERIMENT)).summary_dict()
    assert summary["simulated"][0]["cost"]["coefficients"]["name"] == "distserve-a100"
    assert any("distserve-a100" in what for what in summary["unvalidated"])
    assert np.isfinite(summary["utilisation"]["compute_utilisation"])
