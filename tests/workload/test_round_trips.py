"""A trace that is written says the same when it is read again, and what the other schema cannot say is told."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from simserve.cli.trace import app
from simserve.errors import OutputError
from simserve.workload.requests import RequestTable
from simserve.workload.trace import read_trace, write_trace
from simserve.workload.writing import not_written
from tests.workload.mutants import TEXTS
from tests.workload.traces import V3, write

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "max_output_tokens", "priority", "session", "after")


def names(table: RequestTable, column: str) -> list[str] | None:
    labels = getattr(table, column)
    return None if labels is None else [labels.names[c] for c in labels.codes]


def assert_same(a: RequestTable, b: RequestTable) -> None:
    for column in COLUMNS:
        assert np.array_equal(getattr(a, column), getattr(b, column)), column
    for column in ("slo_class", "label_model", "log_type"):
        assert names(a, column) == names(b, column), column
    assert (a.prefix is None) == (b.prefix is None) and (a.elapsed_s is None) == (b.elapsed_s is None)
    if a.prefix is not None and b.prefix is not None:
        assert a.prefix.block_tokens == b.prefix.block_tokens
        assert np.array_equal(a.prefix.ids, b.prefix.ids) and np.array_equal(a.prefix.offsets, b.prefix.offsets)
    if a.elapsed_s is not None:
        assert np.array_equal(a.elapsed_s, b.elapsed_s, equal_nan=True)
    assert a.provenance["has_arrivals"] == b.provenance["has_arrivals"]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
@pytest.mark.parametrize("name", list(TEXTS))
def test_every_format_through_our_schema(tmp_path, name, ending):
    t = read_trace(write(tmp_path, TEXTS[name], name))
    assert_same(t, read_trace(write_trace(t, tmp_path / f"out{ending}")))


def test_sessions_and_answer_times_survive_in_both_schemas(tmp_path):
    rows = "10,a,3.5,GPT-4,5,6,11,Conversation log\n12,,,ChatGPT,1,1,2,API log\n40,a,50,GPT-4,9,6,15,Conversation log\n"
    t = read_trace(write(tmp_path, V3 + rows))
    for schema, ending in (("simserve", ".parquet"), ("burstgpt", ".csv")):
        back = read_trace(write_trace(t, tmp_path / f"{schema}{ending}", schema=schema))
        assert_same(t, back)
        # The same think times follow, which is what answer times are for: 40 - 10 - 3.5.
        assert read_trace(tmp_path / f"{schema}{ending}", sessions="dependent").arrival_s.tolist() == [0, 2, 26.5]
    assert not_written(t, "burstgpt") == []


def test_a_trace_without_sessions_is_written_in_the_six_columns_of_the_first_release(tmp_path):
    t = read_trace(write(tmp_path, TEXTS["burstgpt.csv"]))
    out = write_trace(t, tmp_path / "o.csv", schema="burstgpt").read_text()
    assert out.splitlines()[0] == "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def test_names_with_commas_and_line_breaks(tmp_path):
    row = {"arrival_s": 0, "prompt_tokens": 4, "output_tokens": 1, "label_model": 'a,"b"', "log_type": "c"}
    import json

    t = read_trace(write(tmp_path, json.dumps(row) + "\n", "t.jsonl"))
    assert names(read_trace(write_trace(t, tmp_path / "o.csv", schema="burstgpt")), "label_model") == ['a,"b"']
    broken = read_trace(write(tmp_path, json.dumps({**row, "label_model": "a\nb"}) + "\n", "u.jsonl"))
    with pytest.raises(OutputError, match="line break"):
        write_trace(broken, tmp_path / "p.csv")
    assert names(read_trace(write_trace(broken, tmp_path / "p.jsonl")), "label_model") == ["a\nb"]


def test_the_command_says_what_the_file_does_not(tmp_path):
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:00.1,1,1200,50\n"
    source = write(tmp_path, text)
    said = CliRunner().invoke(app, ["convert", str(source), str(tmp_path / "o.parquet")])
    assert said.exit_code == 0 and "o.parquet: 1 requests" in said.stdout
    assert "has no place for it: column 'NumImages' of the source" in said.output and "not simulated" in said.output
    mooncake = write(tmp_path, TEXTS["mooncake.jsonl"], "m.jsonl")
    said = CliRunner().invoke(app, ["convert", str(mooncake), str(tmp_path / "o.csv"), "--schema", "burstgpt"])
    assert said.exit_code == 0 and "contents of the prompts" in said.output
    vidur = write(tmp_path, TEXTS["vidur.csv"], "v.csv")
    said = CliRunner().invoke(app, ["convert", str(vidur), str(tmp_path / "v-out.csv"), "--schema", "burstgpt"])
    assert "no arrival times" in said.output
    said = CliRunner().invoke(app, ["convert", str(write(tmp_path, TEXTS["burstgpt.csv"], "b.csv")), str(tmp_path / "b-out.csv")])
    assert "no place" not in said.output


@pytest.mark.parametrize("name", ["run.2024.csv", "run.2024.jsonl.gz", "run.v1.2.parquet"])
def test_names_may_have_dots(tmp_path, name):
    t = read_trace(write(tmp_path, TEXTS["burstgpt.csv"]))
    assert_same(t, read_trace(write_trace(t, tmp_path / name)))
