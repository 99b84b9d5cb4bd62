"""The papers that are cost-model options: every experiment runs, and what it reproduces and misses is as docs/paper-costs.md says."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simserve.config.experiment import load
from simserve.errors import ConfigError
from simserve.study.claims import kinds
from simserve.study.claims.check import ClaimsReport, check_claims
from simserve.study.probes import Figures, evaluate

ROOT = Path(__file__).resolve().parents[2]
MISSES: dict[str, set[str]] = {
    "sarathi_tile": {"probes.linear, mistral-7b_257 / mistral-7b_256"},
    "million_32k": {"probes.step, keys_16_bit / codes_4_bit"},
    "xquant_map": set(),
    "xy_padding": set(),
    "spec_verify": {f"probes.batch_{batch}{length}, torch_npu / xy_serve" for batch in (4, 8) for length in ("", "_long")},
    "xy_reorder": {"probes.attention, conversation_none / conversation_snake"},
    "comet_w4a4": {
        "probes.kernels, fp16 / comet",
        "probes.kernels_at_64, fp16 / comet",
        "probes.speed, comet / fp16",
        "probes.speed, comet / w4a16",
        "probes.speed, comet / w8a8",
    },
    "lserve_ctx": {
        "probes.prefill_256k, vllm / lserve",
        "probes.prefill_512k, vllm / lserve",
        "probes.decode_64k, vllm / lserve",
        "probes.decode_128k, vllm / lserve",
        "probes.decode_512k, vllm / lserve",
    },
    "swiftkv_70b": {"throughput.total_tokens of offline_swiftkv", "throughput.total_tokens, offline_swiftkv / offline"},
    "qserve_a100_table": {
        *(f"probes.speed of w8a8_{model}" for model in ("llama-30b", "yi-34b", "llama-2-70b")),
        *(f"probes.speed, qserve_{m} / w8a8_{m}" for m in ("llama-2-7b", "mistral-7b", "llama-2-13b", "llama-30b", "yi-34b")),
        "probes.speed, qserve_llama-2-70b / w4a16_llama-2-70b",
        "probes.batch of qserve_llama-2-70b",
    },
}


@functools.cache
def report(name: str) -> ClaimsReport:
    return check_claims(name)


@pytest.mark.parametrize("name", MISSES)
def test_verdicts(name: str) -> None:
    outcomes = report(name).outcomes
    assert all(outcome.ours is not None for outcome in outcomes)
    assert {outcome.claim for outcome in outcomes if not outcome.reproduced} == MISSES[name]


@pytest.mark.parametrize("name", MISSES)
def test_the_page_counts_what_is_in_and_out(name: str) -> None:
    page = (ROOT / "docs" / "paper-costs.md").read_text(encoding="utf-8")
    row = re.search(rf"\| `{name}` \|.*\| (.*) \|", page)
    assert row is not None and row[1] == kinds.heading(report(name).outcomes)


def test_qserve_is_fitted_on_one_model_and_predicts_the_others() -> None:
    by_claim = {outcome.claim: outcome for outcome in report("qserve_a100_table").outcomes}
    cells = [o for claim, o in by_claim.items() if claim.startswith("probes.speed of qserve_")]
    errors = [abs(o.ours / o.published - 1) for o in cells]  # type: ignore[operator]
    assert len(errors) == 8 and max(errors) < 0.18 and sum(errors) / 8 < 0.10
    spec = load("qserve_a100_table").spec
    tuned = {"kv_bits", "quantisation", "name", "requests"}  # what a cell is, not a parameter
    assert {key.rsplit(".", 1)[1] for change in spec.variants.values() for key in change} <= tuned


def test_every_result_says_that_it_was_not_validated() -> None:
    for name in ("qserve_a100_table", "comet_w4a4", "lserve_ctx"):
        for variant, figures in report(name).results.items():
            assert isinstance(figures, Figures)
            if variant.startswith(("qserve", "comet", "lserve")):
                assert any("under the model's options" in line for line in figures.simulated_with["unvalidated"])


BASE: dict[str, Any] = {
    "name": "asked",
    "model": {"name": "llama-2-7b"},
    "hardware": "a100-sxm-80gb",
    "probes": {"step": {"measure": "decode_s", "requests": 8, "context_tokens": 500}},
    "variants": {"one": {}, "two": {"probes.step.requests": 16}},
    "claims": [{"figure": "probes.step", "of": ["one", "two"], "order": True}],
}


def test_run_writes_the_probes_of_each_variant(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(json.dumps(BASE))
    command = [sys.executable, "-m", "simserve", "run", str(path), "--out", str(tmp_path / "out"), "--json", "--quiet"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [claim["reproduced"] for claim in printed["claims"]] == [True]
    one = json.loads((tmp_path / "out" / "one" / "summary.json").read_text())
    assert one["probes"]["step"] == printed["claims"][0]["values"]["one"]
    assert one["simulated_with"]["hardware"] == "a100-sxm-80gb"


def test_a_static_batch_is_what_the_engine_makes_of_it() -> None:
    """The probe's closed form against a simulation of the same batch under the static policy."""
    from simserve import api

    batch = {"measure": "batch_tokens_per_s", "prompt_tokens": 600, "output_tokens": 200, "prefill_together": True}
    experiment = {
        **BASE,
        "engine": {"name": "vllm-v1", "request_path": {"per_request_s": 0.0}},
        "cluster": {"instances": [{"scheduler": {"policy": "static", "max_seqs": 16}}]},
        "probes": {f"speed_{n}": {**batch, "requests": n} for n in (1, 15)},
        "claims": [],
    }
    asked = evaluate(load(experiment)).values
    # The first request to arrive is a batch of its own; the other 15 have arrived when it ends.
    seconds = sum(n * 200 / asked[f"speed_{n}"] for n in (1, 15))  # type: ignore[operator]
    lengths = {"prompt": {"kind": "fixed", "tokens": 600}, "output": {"kind": "fixed", "tokens": 200}}
    simulated = {**experiment, "probes": {}, "variants": {}}
    simulated["workload"] = {"arrivals": {"kind": "poisson", "rate_per_s": 1e9}, "lengths": lengths, "count": 16}
    summary = api.run(simulated).summary_dict()
    assert summary["window"]["run_s"] == pytest.approx(seconds, rel=0.001)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claims": [{"figure": "probes.stp", "of": ["one"], "at_least": 0}]}, "did you mean 'probes.step'"),
        ({"claims": [{"figure": "ttft.p50", "of": ["one"], "at_least": 0}]}, "unknown figure 'ttft.p50'"),
        ({"probes": {"step": {"measure": "decode_s", "part": "gem"}}}, "did you mean 'gemm'"),
        ({"probes": {"step": {"measure": "fits", "part": "gemm"}}}, "part is for decode_s, prefill_s, prefill_sweep_s and run_part_s"),
        ({"probes": {"step": {"measure": "decode"}}}, "did you mean 'decode_s'"),
        ({"probes": {}}, "workload: this key is required and missing"),
        ({"variants": {}}, "has no variants to run"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_claims({**BASE, **change})


def test_probes_without_variants_say_so() -> None:
    from simserve import api

    with pytest.raises(ConfigError, match="its probes are asked of variants"):
        api.run({**BASE, "variants": {}, "claims": []})
