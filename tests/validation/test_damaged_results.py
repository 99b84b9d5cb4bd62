"""Damaged measurement files end in a result, a skipped run with its reason, or one message: never in a traceback, never in nonsense."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import mutants
import numpy as np
import pandas as pd
import pytest
import results

from simserve.cli import main
from simserve.errors import ConfigError
from simserve.validation.evaluate import predict_one
from simserve.validation.readers import read_file
from simserve.validation.readers.client_results import completed_by

TOLD = completed_by(hardware="h100-sxm-80gb", engine="vllm-v1", model="llama-3.1-8b")

SOUND: dict[str, dict[str, Any]] = {
    "vllm": results.vllm(max_concurrency=16),
    "vllm details": results.vllm(input_lens=[256] * 60, output_lens=[32] * 60),
    "vllm ramp": results.vllm(request_rate="inf", ramp_up_strategy="linear", ramp_up_start_rps=1, ramp_up_end_rps=9),
    "sglang": results.sglang(request_rate="inf", max_concurrency=4),
    "aiperf": results.aiperf({"request_rate": 4.0, "concurrency": 8, "request_rate_ramp_duration": 5.0}),
    "aiperf phases": results.aiperf(phases=[{"name": "profiling", "type": "gamma", "rate": 4.0, "smoothness": 2.0}]),
    "genai-perf": results.genai_perf(concurrency=4),
    "guidellm": results.guidellm({"type_": "constant", "rate": 4.0, "max_concurrency": 64}),
    "guidellm old": results.guidellm({"type_": "concurrent", "streams": 4}, old=True),
    "llmperf": results.llmperf(),
    "inference-perf": results.inference_perf(concurrency=3),
}


def judge(path: Path, said: str) -> str:
    """Reads and predicts a file; what came of it: 'predicted', 'skipped' or 'refused'. Fails on anything else."""
    try:
        cases = TOLD(read_file(path))
    except ConfigError as problem:
        assert len(str(problem)) < 1000, f"{said}: a message of {len(str(problem))} characters"
        return "refused"
    outcomes = [predict_one(case) for case in cases]
    for outcome in outcomes:
        assert outcome.skip or outcome.predicted, said
        assert len(outcome.skip) < 400, said
        assert all(math.isfinite(v) and v >= 0 for v in outcome.predicted.values()), said
    return "skipped" if any(o.skip for o in outcomes) else "predicted"


def hunt(folder: Path, count: int, seed: int) -> dict[str, int]:
    seen: dict[str, int] = {}
    for name, document in SOUND.items():
        for damage, content in mutants.documents(document, count, seed):
            path = folder / "mutant.json"
            path.write_bytes(content)
            what = judge(path, f"{name}: {damage}, seed {seed}")
            seen[what] = seen.get(what, 0) + 1
    return seen


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_ones_are_predicted(tmp_path: Path, name: str) -> None:
    (tmp_path / "sound.json").write_text(json.dumps(SOUND[name]))
    assert judge(tmp_path / "sound.json", name) == "predicted"


def test_damaged_results_are_told(tmp_path: Path) -> None:
    seen = hunt(tmp_path, 22, 0)
    assert min(seen[what] for what in ("predicted", "skipped", "refused")) > 20


@pytest.mark.nightly
def test_many_damaged_results_are_told(tmp_path: Path) -> None:
    for seed in range(1, 4):
        hunt(tmp_path, 88, seed)


FIXED = {
    "id": "x_h200_sxm_vllm_agg_256x32_c4_tp1_1", "backend": "vllm", "backend_version": "0.12", "model_path": "meta-llama/Llama-3.1-8B",
    "system": "h200_sxm", "precision": "bf16", "mode": "agg", "input_tokens": 256, "output_tokens": 32, "gemm_quant_mode": "bfloat16",
    "tp_size": 1.0, "pp_size": 1.0, "attention_dp_size": 1.0, "moe_tp_size": 1.0, "moe_ep_size": 1.0, "ttft_ms": 40.0, "tpot_ms": 8.0,
    "concurrency": 4.0, "collection": "mine",
}  # fmt: skip


def test_damaged_tables_are_told(tmp_path: Path) -> None:
    rng = random.Random(3)
    seen = set()
    for i in range(60):
        table = pd.DataFrame([FIXED])
        column = rng.choice(list(FIXED))
        odd = rng.choice(
            [None, "abc", "", -1.0, 0.0, 1e30, float("inf"), float("nan"), True, 2**62, b"\xff", [1, 2], np.datetime64("2020-01-01")]
        )
        table[column] = pd.Series([odd], dtype=object)
        if rng.random() < 0.15:
            table = table.drop(columns=[rng.choice(list(FIXED))])
        try:
            table.to_parquet(tmp_path / "t.parquet")
        except (OverflowError, ValueError, TypeError):
            continue
        seen.add(judge(tmp_path / "t.parquet", f"{column} = {odd!r} ({i})"))
    assert seen == {"predicted", "skipped", "refused"}


def test_one_unreadable_file_of_a_folder_is_counted_and_the_others_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "good.json").write_text(json.dumps(results.vllm()))
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    (folder / "odd.json").write_text('{"hello": 1}')
    arguments = ["validate", "serving", str(folder), "--hardware", "h100-sxm-80gb", "--engine", "vllm-v1"]
    assert main([*arguments, "--json"]) == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert set(document["unreadable_files"]) == {"broken.parquet", "odd.json"} and "2 of the files could not be read" in said.err
    assert [g["rows"] for g in document["groups"] if g["metric"] == "ttft_mean"] == [1]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "not read:" in said.out and "broken.parquet" in said.out and "Traceback" not in said.err
    (folder / "good.json").unlink()
    assert main(arguments) == 2
    assert "1 more files" in capsys.readouterr().err
