"""Readers on files of a few lines: what RAGPulse's segments make of a prompt, and what a reader of another package may not give."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.errors import TraceError
from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.of_package import _wrong
from simserve.workload.readers.unused import amount, means_work, remark
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable
from simserve.workload.trace import read_trace

# ---- RAGPulse: prompts are segments, cut into blocks of 64 tokens ----

SIDE = (
    ("1_sys_prompt", "sys_prompt_id", {1: 100}),
    ("2_passages", "passage_id", {1: 64, 2: 28, 3: 200}),
    ("3_history", "history_id", {1: 8}),
    ("5_web_search", "web_search_id", {1: 8}),
    ("4_user_input", "user_input_id", {1: 40, 2: 40}),
)


def ragpulse(folder: Path, *prompts: dict[str, Any], tokens: int = 1000, without: str = "") -> RequestTable:
    """The table of a trace of such prompts (ids by kind of segment), with its side files."""
    for stem, key, lengths in SIDE:
        if stem != without:
            lines = [json.dumps({key: number, "token_length": length}) + "\n" for number, length in lengths.items()]
            (folder / f"{stem}.jsonl").write_text("".join(lines))
    rows = [
        {"timestamp": float(k), "input_length": tokens, "output_length": 3, "session_id": f"s{k % 2}", "hash_ids": ids}
        for k, ids in enumerate(prompts)
    ]
    path = folder / "0_trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_trace(path, "ragpulse")


def blocks(table: RequestTable) -> list[list[int]]:
    assert table.prefix is not None and table.prefix.block_tokens == 64
    ends = table.prefix.offsets.tolist()
    return [table.prefix.ids[a:b].tolist() for a, b in itertools.pairwise(ends)]


def test_segments_follow_each_other_in_blocks_of_64(tmp_path: Path) -> None:
    """100 tokens of system prompt and 28 of a passage are two full blocks; 64 more and 40 of the user one, and 40 that fill none."""
    one, two, three = blocks(
        ragpulse(
            tmp_path,
            {"sys_prompt": [1], "passages_ids": [2, 1], "user_input": [1]},
            {"sys_prompt": [1], "passages_ids": [2, 1], "user_input": [2]},
            {"sys_prompt": [1], "passages_ids": [1, 2], "user_input": [1]},
        )
    )
    assert len(one) == len(two) == len(three) == 3
    assert one == two, "they differ in what fills no block"
    assert one[0] == three[0] and not {one[1], one[2]} & {three[1], three[2]}, "the first block is of the system prompt alone"


def test_a_block_is_its_contents_and_all_before_it(tmp_path: Path) -> None:
    first, second = blocks(ragpulse(tmp_path, {"passages_ids": [1, 1, 3]}, {"passages_ids": [3]}))
    assert len(first) == 2 + 3 and len(second) == 3 and not set(first) & set(second)
    assert len(set(first)) == 5, "the same passage twice is two blocks"


def test_no_more_blocks_than_the_prompt_fills(tmp_path: Path) -> None:
    for tokens, found in ((191, 2), (192, 3), (1000, 3), (63, 0)):
        assert [len(each) for each in blocks(ragpulse(tmp_path, {"passages_ids": [3]}, tokens=tokens))] == [found]


def test_segments_without_a_length_are_empty_and_said(tmp_path: Path) -> None:
    table = ragpulse(tmp_path, {"passages_ids": [1, 9], "history": [4]}, {"user_input": [1, 2]})
    assert [len(each) for each in blocks(table)] == [1, 1]
    assert "2 segments of prompts had no length in the side files: taken as empty" in json.dumps(table.provenance)
    assert table.session.tolist() == [0, 1]
    assert ragpulse(tmp_path, {"passages_ids": [9]}).provenance["notes"] == [
        "1 segment of prompts had no length in the side files: taken as empty"
    ]


def test_without_all_side_files_nothing_is_known_of_contents(tmp_path: Path) -> None:
    table = ragpulse(tmp_path, {"passages_ids": [1]}, without="3_history")
    assert table.prefix is None and "the side files with the lengths" in json.dumps(table.provenance)


@pytest.mark.parametrize("ids", [{"passages_ids": 3}, {"passages_ids": ["3"]}, {"passages_ids": [True]}, [1]])
def test_ids_that_are_none(ids: Any, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="line 1: "):
        ragpulse(tmp_path, ids)


# ---- what a reader of another package gave ----

TWO = np.array([3, 4])
GOOD = TraceColumns(np.array([0.0, 1.0]), TWO, TWO)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"arrival_s": None}, ""),
        ({"arrival_s": np.array([0, 1])}, ""),
        ({"prompt_tokens": None}, "no prompt_tokens"),
        ({"prompt_tokens": np.array(3)}, "prompt_tokens that is no array of whole numbers"),
        ({"prompt_tokens": [3, 4]}, "prompt_tokens that is no array of whole numbers"),
        ({"output_tokens": None}, "no output_tokens"),
        ({"priority": np.array([1.0, 2.0])}, "priority that is no array of whole numbers"),
        ({"session": [1, 2]}, "session that is no array of whole numbers"),
        ({"after": np.array([[-1], [-1]])}, "after that is no array of whole numbers"),
        ({"arrival_s": np.array(["a", "b"])}, "arrival_s that is no array of numbers"),
        ({"elapsed_s": np.array([1.0, 2.0, 3.0])}, "elapsed_s with 3 rows, prompt_tokens with 2"),
        ({"output_tokens": np.array([1])}, "output_tokens with 1 rows, prompt_tokens with 2"),
        ({"slo_class": ["a", "b"]}, "slo_class that is no Labels"),
        ({"slo_class": Labels.of(["a", "b"]), "label_model": Labels.of(["m", "m"]), "log_type": Labels.of(["x", "y"])}, ""),
        ({"log_type": TWO}, "log_type that is no Labels"),
        ({"prefix": PrefixBlocks(np.array([0, 1, 2]), np.array([7, 8]), 16)}, ""),
        ({"prefix": PrefixBlocks(np.array([0, 1]), np.array([7]), 16)}, "prefix that is no PrefixBlocks of as many rows"),
        ({"prefix": PrefixBlocks(np.array([0, 1, 2, 2]), np.array([7, 8]), 16)}, "prefix that is no PrefixBlocks of as many rows"),
        ({"prefix": TWO}, "prefix that is no PrefixBlocks of as many rows"),
        ({"arrival_s": np.array([0.0, np.nan])}, "arrival_s nan in row 1, which must be a number >= 0"),
        ({"arrival_s": np.array([np.inf, 0.0])}, "arrival_s inf in row 0, which must be a number >= 0"),
        ({"prompt_tokens": np.array([0, -1])}, "prompt_tokens -1 in row 1, which must be a number >= 0"),
        ({"output_tokens": np.array([-2, 1])}, "output_tokens -2 in row 0, which must be a number >= 0"),
    ],
)
def test_what_a_reader_may_not_give(changes: dict[str, Any], words: str) -> None:
    assert _wrong(replace(GOOD, **changes)) == words


def test_something_else_than_columns() -> None:
    assert _wrong({}) == "dict instead of TraceColumns"


# ---- columns that no reader uses ----


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, 0), (False, 0), ("", 0), (True, 1), ([], 0), ([1, 2], 2), ({"a": 1}, 1), (3, 3), (2.5, 2.5), ("4", 4), ("some words", 1),
        ((1, 2), 1), (10**400, 1), (math.nan, 0), (math.inf, 0), (-7, -7), (1e18, 0), (9e17, 9e17), ("nan", 0),
    ],
)  # fmt: skip
def test_how_much_a_value_states(value: Any, found: float) -> None:
    assert amount(value) == found


def test_what_is_left_out_of_the_simulation_is_counted() -> None:
    assert remark("images", [(2.0, 3), (0.0, 4), (1.0, 1)]) == "'images': 7 in 4 of 8 requests; not simulated, only the token counts are"
    assert remark("images", [(0.0, 4)]) is remark("images", []) is None
    assert remark("images", [(1500.0, 1)]) == "'images': 1,500 in 1 of 1 request; not simulated, only the token counts are"
    assert means_work("num_IMAGES") and means_work("kv_cache_hits") and means_work("lora_id") and not means_work("user")


# ---- names of files ----


def test_a_name_that_no_file_system_takes_is_said() -> None:
    with pytest.raises(TraceError) as caught:
        read_trace("x" * 5000)
    assert "too long" in str(caught.value).lower() and "no such trace file" not in str(caught.value)
