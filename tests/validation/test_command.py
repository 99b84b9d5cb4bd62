from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import simserve
from simserve.cli import main
from simserve.config.engine_profile import load_engine
from simserve.validation.accuracy import FILE, accuracy_of

RESULT = {
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "request_rate": "inf",
    "max_concurrency": 8,
    "completed": 40,
    "total_input_tokens": 40 * 256,
    "total_output_tokens": 40 * 32,
    "output_throughput": 500.0,
    "mean_ttft_ms": 60.0,
    "mean_tpot_ms": 12.0,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))


def run(*words: str) -> int:
    try:
        code = main(list(words))
    except SystemExit as end:
        code = end.code
    return int(code or 0)


def results(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    for clients in (2, 8):
        throughput = clients * 32 / (0.060 + 31 * 0.012)  # what so many clients get with RESULT's mean times
        (folder / f"c{clients}.json").write_text(json.dumps(RESULT | {"max_concurrency": clients, "output_throughput": throughput}))
    return folder


def test_json_is_pure_and_plots_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = results(tmp_path), tmp_path / "out"
    assert run("validate", "serving", str(folder), "--hardware", "h100-sxm-80gb", "--engine", "vllm-v1", "--json", "--out", str(out)) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"groups", "models_taken", "skipped_reasons", "unreadable_files", "intervals"}
    assert not document["unreadable_files"]
    rows, counts = document["intervals"]["rows"], document["intervals"]["inside"]
    assert all(row["inside"] == (row["low"] <= row["measured"] <= row["high"]) for row in rows)
    assert all(row["low"] < row["predicted"] < row["high"] for row in rows)
    assert len(rows) >= 6 and counts["all"] == {"inside": sum(row["inside"] for row in rows), "of": len(rows)}
    columns = (out / "predictions.csv").read_text().splitlines()
    assert columns[0].endswith("belief,low,high,inside") and columns[1].split(",")[-4] == rows[0]["belief"]
    assert sum(g["rows"] for g in document["groups"] if g["metric"] == "tpot_mean") == 2
    assert {p.name for p in out.iterdir()} == {"predictions.csv", "errors.json", "c2.png", "c8.png"}


def test_a_single_run_is_shown_beside_its_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a measurement is normal is asked of one run: its figures are named, not only counted."""
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(RESULT))
    assert run("validate", "serving", str(path), "--hardware", "h100-sxm-80gb", "--engine", "vllm-v1") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("mine.json ")]
    assert {line[1]: line[2] for line in lines} == {"ttft_mean": "60.0", "tpot_mean": "12.0", "output_tokens_per_s": "500"}
    assert all("to" in line and line[-1] in ("yes", "no") for line in lines)


def test_mistakes_cost_one_message_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path)
    assert run("validate", "serving", str(folder), "--dataset", "c9") == 2
    assert run("validate", "serving", str(folder), "--part", "chek") == 2
    said = capsys.readouterr().err
    assert "did you mean 'check'" in said and "Traceback" not in said


def test_a_users_engine_profile_can_be_fitted_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = results(tmp_path), tmp_path / "mine.yaml"
    assert run("fit-engine", str(folder), "--engine", "vllm-v1", "--hardware", "h100-sxm-80gb", "--out", str(out), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    profile = load_engine(str(out))
    assert told["runs"] == 2 and told["overheads_s"]["per_step_s"] == pytest.approx(profile.host.per_step_s, rel=1e-3)
    assert told["median_error_percent"]["after"].keys() == told["median_error_percent"]["before"].keys()
    assert profile.name == "mine" and profile.host.per_step_s > 0.001
    assert not profile.validated and profile.held_out is None  # two runs: none can be held out
    assert run("fit-engine", str(folder), "--engine", "vllm-v1", "--hardware", "h100-sxm-80gb", "--out", str(out)) == 2


def sweep(folder: Path, cap: int | None) -> Path:
    """A load sweep as vLLM's client writes it down: 40 requests of 256 and 32 tokens at three rates."""
    folder.mkdir()
    for rate, ttft, tpot in ((1.0, 24.0, 7.0), (4.0, 26.0, 7.4), (16.0, 33.0, 8.6)):
        one = {"request_rate": rate, "burstiness": 1.0, "max_concurrency": cap, "mean_ttft_ms": ttft, "mean_tpot_ms": tpot}
        (folder / f"r{rate:g}.json").write_text(json.dumps(RESULT | one | {"output_throughput": None}))
    return folder


def test_a_cap_that_never_binds_changes_no_overhead(tmp_path: Path) -> None:
    told = []
    for cap in (None, 256):
        out = tmp_path / f"{cap}.yaml"
        folder = sweep(tmp_path / f"sweep{cap}", cap)
        assert run("fit-engine", str(folder), "--engine", "vllm-v1", "--hardware", "h100-sxm-80gb", "--out", str(out)) == 0
        profile = load_engine(str(out))
        told.append((profile.host, profile.request_path))
    assert told[0] == told[1] and 0 < told[0][1].per_request_s < 0.1


def test_a_fit_that_is_no_engine_is_an_error_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "slow", tmp_path / "mine.yaml"
    folder.mkdir()
    for clients in (2, 8):  # three seconds to the first of 256 tokens: another model, or a queue that the file does not show
        one = RESULT | {"max_concurrency": clients, "mean_ttft_ms": 3000.0, "mean_tpot_ms": 7.0, "output_throughput": None}
        (folder / f"c{clients}.json").write_text(json.dumps(one))
    assert run("fit-engine", str(folder), "--engine", "vllm-v1", "--hardware", "h100-sxm-80gb", "--out", str(out)) == 2
    said = capsys.readouterr()
    assert "not overheads of an engine" in said.err and "nothing was written" in said.err and not out.exists()


def test_runs_that_are_not_understood_are_not_learned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path)
    for i in range(2):
        (folder / f"c{(2, 8)[i]}.json").write_text(json.dumps(RESULT | {"ramp_up_strategy": "wave"}))
    assert run("fit-engine", str(folder), "--engine", "vllm-v1", "--hardware", "h100-sxm-80gb", "--out", str(tmp_path / "x.yaml")) == 2
    assert "nothing to fit" in (said := capsys.readouterr().err) and "without its start" in said and not (tmp_path / "x.yaml").exists()


def test_accuracy_is_known_only_where_it_was_measured() -> None:
    known = yaml.safe_load(FILE.read_text())["combinations"]
    first = known[0]
    found = accuracy_of(first["engine"], first["hardware"], first["model"])
    assert found is not None and found["rows"] > 0 and found["metrics"]
    assert accuracy_of("vllm-v1", "h100-sxm-80gb", "phi-2") is None


@pytest.mark.parametrize(("weights", "measured"), [("none", True), ("fp8", False)])
def test_measured_runs_count_for_the_weights_that_were_measured(weights: str, measured: bool) -> None:
    found = accuracy_of("vllm-v1-async", "h100-sxm-80gb", "llama-3.1-8b")
    assert found is not None and found["weights"] == ["none"]
    changes = {"model": {"name": "llama-3.1-8b", "quantisation": weights}, "hardware": "h100-sxm-80gb", "engine": "vllm-v1-async"}
    (info,) = simserve.run("quickstart", **{**changes, "workload.trace.duration_s": 60}).records.instances
    assert info.cost["measured_runs"]["validated"] is measured
    assert info.cost["measured_runs"].get("other_weights") == (None if measured else ["none"])


def test_a_budget_names_steps_and_queueing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = results(tmp_path)
    assert run("validate", "serving", str(folder), "--hardware", "h100-sxm-80gb", "--budget") == 0
    said = capsys.readouterr().out
    assert "Error budget" in said and "queueing" in said
