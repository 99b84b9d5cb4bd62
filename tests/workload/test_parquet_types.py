"""Parquet has types: numbers are read exactly, what is not a number is refused with the column's name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from simserve.errors import TraceError
from simserve.workload.trace import read_trace

GOOD: dict[str, Any] = {"arrival_s": [0.0, 1.5], "prompt_tokens": [40, 64], "output_tokens": [5, 7]}


def file(folder, **columns: Any):
    path = folder / "t.parquet"
    parquet.write_table(pa.table({**GOOD, **columns}), path)
    return path


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("arrival_s", pa.array([0, 1], pa.timestamp("us")), "column 'arrival_s' holds timestamp[us], not numbers"),
        ("arrival_s", pa.array([0, 1], pa.duration("s")), "column 'arrival_s' holds duration[s]"),
        ("prompt_tokens", pa.array([True, False]), "column 'prompt_tokens' holds bool"),
        ("prompt_tokens", pa.array([0, 1], pa.date32()), "column 'prompt_tokens' holds date32"),
        ("output_tokens", ["5", "7"], "column 'output_tokens' holds string"),
        ("output_tokens", [[5], [7]], "column 'output_tokens' holds list"),
        ("output_tokens", [{"n": 5}, {"n": 7}], "column 'output_tokens' holds struct"),
        ("output_tokens", [5, None], "row 1: 'output_tokens' is empty"),
        ("output_tokens", pa.nulls(2), "row 0: 'output_tokens' is empty"),
        ("output_tokens", [5.0, float("nan")], "row 1: 'output_tokens' is empty"),
        ("output_tokens", [5, 2**63 - 1], "row 1: 'output_tokens' is 9.22337e+18; at most 1,000,000,000"),
        ("output_tokens", pa.array([5, 2**64 - 1], pa.uint64()), "row 1: 'output_tokens' is 1.84467e+19"),
        ("output_tokens", [Decimal("5"), Decimal("2.5")], "row 1: 'output_tokens' is 2.5, not a whole number"),
        ("output_tokens", pa.array([np.float16(5), np.float16(7)]), "column 'output_tokens' holds halffloat"),
        ("session", pa.array([True, False]), "column 'session' holds bool"),
        ("elapsed_s", pa.array([0, 1], pa.timestamp("ms")), "column 'elapsed_s' holds timestamp[ms]"),
        ("slo_class", [1, 2], "column 'slo_class' holds int64, not text"),
        ("label_model", [["a"], ["b"]], "column 'label_model' holds list"),
        ("oops", [1, 2], "unknown column 'oops'"),
    ],
)
def test_what_is_refused(tmp_path, column, values, words):
    path = file(tmp_path, **{column: values})
    with pytest.raises(TraceError) as e:
        read_trace(path)
    assert words in str(e.value) and len(str(e.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    "values",
    [pa.array([40, 64]).dictionary_encode(), [Decimal("40"), Decimal("64.0")], [40.0, 64.0], pa.array([40, 64], pa.uint8()),
     pa.array([40, 64], pa.decimal256(70, 0)), pa.chunked_array([[40], [64]])],
)  # fmt: skip
def test_numbers_are_numbers_however_they_are_stored(tmp_path, values):
    t = read_trace(file(tmp_path, prompt_tokens=values))
    assert t.prompt_tokens.tolist() == [40, 64] and t.arrival_s.tolist() == [0, 1.5]


def test_optional_columns_of_nulls_are_absent(tmp_path):
    t = read_trace(file(tmp_path, session=pa.nulls(2), priority=pa.array([None, 3]), slo_class=["a", None], elapsed_s=[None, 2.0]))
    assert t.session.tolist() == [-1, -1] and t.priority.tolist() == [0, 3]
    assert [t.slo_class.names[c] for c in t.slo_class.codes] == ["a", ""]
    assert np.array_equal(t.elapsed_s, [np.nan, 2], equal_nan=True)


def test_the_index_of_a_data_frame_is_no_column(tmp_path):
    assert len(read_trace(file(tmp_path, __index_level_0__=[7, 9]))) == 2


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([[1, 2], None], [1, 2]), (pa.array([[2**64 - 1], [1]], pa.list_(pa.uint64())), [2**64 - 1, 1]), ([["a"], ["b"]], [0, 1])],
)
def test_contents(tmp_path, ids, expected):
    assert read_trace(file(tmp_path, prefix_ids=ids, prefix_block_tokens=[16, 16])).prefix.ids.tolist() == expected


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 2], "column 'prefix_ids' holds int64, not lists of ids"),
        ([[1.5], [2.0]], "'prefix_ids' holds 1.5"),
        ([[[1]], [[2]]], "'prefix_ids' holds a list of 1"),
        ([[True], [False]], "'prefix_ids' holds true"),
        ([[1, None], [2]], "'prefix_ids' holds nothing"),
    ],
)
def test_contents_that_are_none(tmp_path, ids, words):
    with pytest.raises(TraceError) as e:
        read_trace(file(tmp_path, prefix_ids=ids, prefix_block_tokens=[16, 16]))
    assert words in str(e.value)


def test_records_of_mooncake_and_qwen_bailian_may_be_parquet(tmp_path):
    path = tmp_path / "m.parquet"
    lengths = {"input_length": [600, 700], "output_length": [1, 2]}
    parquet.write_table(pa.table({"timestamp": [0, 1000], **lengths, "hash_ids": [[1, 2], [1, 3]]}), path)
    t = read_trace(path)
    assert t.provenance["format"] == "mooncake" and t.arrival_s.tolist() == [0, 1] and t.prefix.ids.tolist() == [1, 2, 1, 3]
    parquet.write_table(pa.table({"timestamp": [0.5, 1], "chat_id": [3, 4], "parent_chat_id": [-1, 3], **lengths}), path)
    assert read_trace(path).provenance["format"] == "qwen-bailian"
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([1]), pa.array([1])], names=["prompt_tokens", "output_tokens", "prompt_tokens"])
    parquet.write_table(twice, path)
    with pytest.raises(TraceError, match="column 'prompt_tokens' is there twice"):
        read_trace(path)
