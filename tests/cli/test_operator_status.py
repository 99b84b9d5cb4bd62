"""What a run and `simserve hardware` print of operators that have no table of measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simserve import run
from simserve.cli import main

EXPERIMENT = """
{model}
hardware: {hardware}
engine: vllm-ascend
cluster: {{instances: [{{parallel: {{tp: 2}}, max_model_len: 4096}}]}}
workload:
  closed_loop: {{concurrency: 2}}
  lengths: {{prompt: {{kind: fixed, tokens: 64}}, output: {{kind: fixed, tokens: 4}}}}
  count: 4
"""


def said(hardware: str, folder: Path, quantisation: str = "") -> list[str]:
    path = folder / f"{hardware}.yaml"
    model = f"model: {{name: qwen3-30b-a3b, quantisation: {quantisation}}}" if quantisation else "model: qwen3-30b-a3b"
    path.write_text(EXPERIMENT.format(hardware=hardware, model=model), encoding="utf-8")
    warnings = run(path).summary_dict()["warnings"]
    return [line for line in warnings if line.startswith("Operators of")]


def test_a_run_says_which_operators_are_measured_fitted_and_assumed(tmp_path: Path) -> None:
    (line,) = said("ascend-910b", tmp_path)
    measured, fitted, assumed = line.split(";")
    assert "gemm (13 %)" in measured and "all_reduce" in measured
    assert fitted.startswith(" fitted on serving runs: moe (")
    assert assumed == " assumed: attention_decode."
    assert said("h100-sxm-80gb", tmp_path) == []


def test_no_measurement_stands_behind_formats_that_a_device_has_no_units_for(tmp_path: Path) -> None:
    for quantisation in ("fp8", "w4a4_nvfp4"):
        (line,) = said("ascend-910b", tmp_path, quantisation)
        measured, assumed = line.split(" - ")[1].split("; ", 1)
        assert "gemm bf16 (13 %)" in measured or "gemm (" not in measured, line  # the LM head is 16 bit
        assert "assumed: " in assumed and "gemm" in assumed and "moe" in assumed and "fitted" not in assumed, line


def test_a_profile_lists_what_stands_behind_its_operators(capsys: pytest.CaptureFixture[str]) -> None:
    main(["hardware", "ascend-910c", "--json"])
    rows = {(row["operator"], row["dtypes"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["moe", ""]["status"] == "fitted" and rows["attention_decode", ""]["error_percent"] is None
    main(["hardware", "a100-sxm-80gb", "--json"])
    assert {row["status"] for row in json.loads(capsys.readouterr().out)} == {"measured"}
    main(["hardware", "ascend-310p"])
    assert "analytic estimates (assumed)" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_profile_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hardware", "ascend-910d"]) == 2
    assert "ascend-910c" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_no_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("my-910b.yaml", "profiles/my-910b.yaml"):
        assert main(["hardware", path]) == 2
        said = capsys.readouterr().err
        assert "no such" in said and "Allowed" not in said


def test_braces_that_a_shell_took_apart_are_to_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "quickstart", "--set", "cluster.instances.0.parallel=tp:2", "cluster.instances.0.parallel=ep:2"]) == 2
    assert "quotes" in capsys.readouterr().err
