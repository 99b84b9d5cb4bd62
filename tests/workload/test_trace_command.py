"""`simserve trace` as users type it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from simserve.cli.trace import app
from simserve.errors import OutputError
from simserve.workload.trace import read_trace


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_info_as_text_and_as_pure_json(tmp_path):
    assert "14,781" in run("info", "burstgpt-sample") and "dispersion" in run("info", "traces/burstgpt-sample.csv")
    s = json.loads(run("info", "burstgpt-sample", "--json", "--duration-s", 3600, "--plot", tmp_path / "p.png"))
    assert s["rows"] == 1563 and s["provenance"]["format"] == "burstgpt" and (tmp_path / "p.png").stat().st_size > 10_000


def test_convert_and_back(tmp_path):
    run("convert", "burstgpt-sample", tmp_path / "a.parquet", "--duration-s", 3600)
    run("convert", tmp_path / "a.parquet", tmp_path / "b.csv.gz", "--schema", "burstgpt")
    a, b = read_trace(tmp_path / "a.parquet"), read_trace(tmp_path / "b.csv.gz")
    assert len(a) == len(b) == 1563 and a.arrival_s.tolist() == b.arrival_s.tolist() and a.log_type.names == b.log_type.names
    with pytest.raises(OutputError, match="exists already"):
        run("convert", tmp_path / "a.parquet", tmp_path / "b.csv.gz")
    with pytest.raises(OutputError, match="ending"):
        run("convert", tmp_path / "a.parquet", tmp_path / "b.txt")


def test_generate_by_name_and_from_a_workload_section(tmp_path):
    run("generate", "burstgpt-like", tmp_path / "g.csv", "--days", 0.5, "--start-day", 10, "--seed", 3)
    assert len(read_trace(tmp_path / "g.csv")) > 100
    spec = tmp_path / "w.yaml"
    spec.write_text(
        "workload:\n  arrivals: {kind: gamma, rate_per_s: 2, cv: 3}\n"
        "  lengths: {prompt: {kind: zipf, exponent: 1.1, high_tokens: 999}, output: {kind: fixed, tokens: 5}}\n  count: 40\n"
    )
    run("generate", spec, tmp_path / "w.jsonl")
    t = read_trace(tmp_path / "w.jsonl")
    assert len(t) == 40 and set(t.output_tokens) == {5}
