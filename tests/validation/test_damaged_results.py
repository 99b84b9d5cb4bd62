"""Damaged measurement files end in a result, a skipped run with its reason, or one message: never in a traceback, never in nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mutants
import pytest
import results
from judging import judge

from simserve.cli import main

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
