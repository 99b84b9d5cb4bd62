"""Measured servers that speculate: what is read of them, and that they are simulated so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import speculation
from benchmarks.measured_runs import TABLES, drafts, launch
from benchmarks.speculation_runs import SERVERS, read
from simserve.cost.host import DRAFT_PASS_S, VERIFICATION_S
from simserve.validation.case import Case, Lengths, Load
from simserve.validation.predict import predict
from simserve.validation.readers import read_file

MEASUREMENTS = Path(__file__).parents[2] / ".." / "shared" / "speculation_measurements"
needs_rows = pytest.mark.skipif(not MEASUREMENTS.is_dir(), reason="needs ../shared/speculation_measurements")


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ('--speculative-config \'{"num_speculative_tokens": 3, "method": "deepseek_mtp"}\'', 3),
        ('--speculative_config {"method": "qwen3_5_mtp", "num_speculative_tokens": 5, "enforce_eager": true}', 5),
        ('--speculative-config {"method": "eagle3", "model": "AngelSlim/Qwen3-a3B_eagle3", "num_speculative_tokens": 3}', None),
        ("vllm serve deepseek-ai/DeepSeek-V3.2 -tp 8", None),
    ],
)
def test_options_say_how_many_tokens_are_drafted(options: str, tokens: int | None) -> None:
    assert drafts.stated(options) == ({} if tokens is None else drafts.mtp(tokens))


def test_the_second_script_of_the_public_runs_drafts() -> None:
    """Of TensorRT-LLM on H200 from 2026 on: three tokens, one with data-parallel attention."""
    known: dict[str, Any] = {"collection": launch.PUBLIC, "engine_profile": "tensorrt-llm", "model": "DeepSeek-R1", "gpu": "h200-sxm-141gb"}
    assert launch.mtp_tokens(**known, measured_on="2026-01-14", attention_dp=False) == 3
    assert launch.mtp_tokens(**known, measured_on="2026-01-14", attention_dp=True) == 1
    assert launch.mtp_tokens(**known, measured_on="2025-12-15", attention_dp=False) == 0
    assert launch.mtp_tokens(**known | {"model": "gpt-oss-120b"}, measured_on="2026-01-14", attention_dp=False) == 0
    run = launch.Run("tensorrt-llm", "h200-sxm-141gb", "DeepSeek-R1", 8192, 1024, 64, 1, 8, 1)
    assert launch.settings(launch.PUBLIC, run)["max_seqs"] == 8
    assert launch.settings(launch.PUBLIC, run)["max_num_batched_tokens"] == 8320  # 2 x 8 + 8192 + 64, a multiple of 64


def test_a_sweep_over_prompt_lengths_is_read(tmp_path: Path) -> None:
    row = {"model_id": "zai-org/GLM-5-FP8", "layout": "tp8", "isl": 1024, "osl": 128, "conc": 16, "num_prompts": 160}
    row |= {"median_ttft": 0.29, "median_tpot": 0.034, "output_throughput": 404.0}
    path = tmp_path / "sweep.parquet"
    spread = row | {"model_id": "MiniMaxAI/MiniMax-M2.5", "layout": "dep8"}
    pd.DataFrame([row, spread]).to_parquet(path)
    glm, minimax = read_file(path, TABLES)
    assert not glm.skip
    assert (glm.tp, glm.ep, glm.load.concurrency, glm.load.requests) == (8, 1, 16, 160)
    assert glm.settings["speculation"] == {"method": "mtp", "tokens": 1, "rate": drafts.MTP_ACCEPTANCE}
    assert glm.measured == {"ttft_median": 0.29, "tpot_median": 0.034, "output_tokens_per_s": 404.0}
    assert (minimax.tp, minimax.dp, minimax.ep) == (1, 8, 8)
    assert "speculation" not in minimax.settings


def test_accepted_drafts_shorten_the_time_per_token() -> None:
    """Four clients: a step of MiMo-7B with one MTP token takes little longer, and yields 1 + rate tokens; with rate 0 it only costs."""
    case = Case(
        "own", "mimo", "mimo", "vllm", "0.16", "vllm-v1-async", "h200-sxm-141gb", "mimo-7b",
        Load("closed", Lengths(500.0), Lengths(200.0), requests=24, concurrency=4), {},
    )  # fmt: skip
    plain = predict(case)["tpot_mean"]
    right, wrong = (
        predict(replace(case, settings={"speculation": {"method": "mtp", "tokens": 1, "rate": rate}}))["tpot_mean"] for rate in (1.0, 0.0)
    )
    assert 1.4 < plain / right < 2.0
    assert 1.0 < wrong / plain < 1.4
    assert wrong / right == pytest.approx(2.0, rel=0.05)


def priced(models: list[str]) -> pd.DataFrame:
    rows = read(MEASUREMENTS)
    assert len(rows) == 440
    return speculation.priced(rows[rows["model"].isin(models)].reset_index(drop=True))


@pytest.mark.shared
@needs_rows
def test_speed_ups_follow_from_acceptance_lengths_with_the_default_host() -> None:
    rows = priced(["Llama-3.1-8B-Instruct", "Qwen3-30B-A3B-Instruct-2507"])
    speedups = speculation.predicted(rows, speculation.Host(DRAFT_PASS_S, VERIFICATION_S))
    assert pd.Series(speculation.errors(rows, speedups)).median() < 0.08
    right, pairs = speculation.ordered_right(rows, speedups, clear=0.03)
    assert right > 0.85 * pairs > 100


@pytest.mark.shared
@pytest.mark.nightly
@needs_rows
def test_speed_ups_of_models_left_out() -> None:
    rows = priced(list(SERVERS))
    speedups, hosts = speculation.left_out(rows)
    assert pd.Series(speculation.errors(rows, speedups)).median() < 0.08
    assert pd.Series(speculation.errors(rows, speculation.constant(rows))).median() > 0.2
    assert all(0 < host.pass_s < 0.4e-3 and host.step_s < 4e-3 for host in hosts.values())
    right, pairs = speculation.ordered_right(rows, speedups)
    assert right > 0.82 * pairs
