"""What prompts contain: ids as traces write them, keys as prefix caches have them, and the reuse that `trace info` and a run agree on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simserve
from simserve.errors import TraceError
from simserve.workload.requests import PrefixBlocks
from simserve.workload.statistics import prefix_reuse, trace_statistics
from simserve.workload.trace import read_trace, write_trace
from tests.workload.traces import write

MODEL = {"model": "llama-2-7b", "hardware": "a100-sxm-80gb"}


def trace(folder, contents: list[list], tokens: list[int], gap_ms: int = 100_000, name: str = "t.jsonl"):
    rows = [{"timestamp": gap_ms * k, "input_length": n, "output_length": 3, "hash_ids": c} for k, (n, c) in
            enumerate(zip(tokens, contents, strict=True))]  # fmt: skip
    return write(folder, "".join(json.dumps(row) + "\n" for row in rows), name)


def blocks(contents: list[list[int]], size: int = 16) -> PrefixBlocks:
    return PrefixBlocks(np.cumsum([0, *map(len, contents)]), np.array([i for c in contents for i in c], dtype=np.int64), size)


def run(path, **kv):
    workload = {"trace": {"path": str(path), "format": "mooncake", "block_tokens": 512}}
    return simserve.run({**MODEL, "workload": workload, "cluster": {"instances": [{"kv": {"prefix_caching": True, **kv}}]}}, check=True)


@pytest.mark.parametrize("ids", [[2**64 - 1, 2**63, 2], [-5, 2**63 - 1, 2], [2**53 + 1, 2**53, 2**53 + 2]])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_ids_of_64_bits_are_read_and_written_as_they_are(tmp_path, ids, ending):
    t = read_trace(trace(tmp_path, [ids, ids[:1]], [1536, 500]))
    assert t.prefix.ids.tolist() == [*ids, ids[0]]
    assert read_trace(write_trace(t, tmp_path / f"o{ending}")).prefix.ids.tolist() == [*ids, ids[0]]


def test_text_ids_are_numbered_by_first_appearance_and_said(tmp_path):
    t = read_trace(trace(tmp_path, [["ab", "cd"], ["ab", "ef"]], [1024, 1024]))
    assert t.prefix.ids.tolist() == [0, 1, 0, 2]
    assert t.provenance["notes"] == ["'hash_ids' holds text: 3 contents numbered by first appearance"]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([2**64, 1], "line 2: 'hash_ids' holds 18446744073709551616: an integer of more than 64 bits; write such ids as text"),
        ([-(2**63) - 1, 1], "more than 64 bits"),
        ([1.5, 2], "line 2: 'hash_ids' holds 1.5; ids are integers"),
        ([True, 2], "line 2: 'hash_ids' holds true"),
        ([None, 2], "line 2: 'hash_ids' holds nothing"),
        ([[1], [2]], "line 2: 'hash_ids' holds a list of 1"),
        (["a", 1], "line 2: 'hash_ids' mixes integers and text"),
        ("17 18", "line 2: 'hash_ids' is '17 18', not a list of integers"),
        ([10**400, 1], "a number of about 401 digits"),
        ([5, -1], "line 2: 'hash_ids' holds -1, which may mark a block of unknown content"),
    ],
)
def test_ids_that_are_none(tmp_path, ids, words):
    with pytest.raises(TraceError) as e:
        read_trace(trace(tmp_path, [[1, 2], ids], [1024, 1024]))
    assert words in str(e.value) and len(str(e.value)) < 300 + len(str(tmp_path))
    if ids == [-(2**63) - 1, 1]:
        with pytest.raises(TraceError, match=r"line 1: 'hash_ids' holds a negative integer, and others are above"):
            read_trace(trace(tmp_path, [[-3, 2], [2**63, 3]], [1024, 1024]))


def test_a_key_stands_for_a_block_and_all_before_it():
    keys = blocks([[7, 7, 7], [7, 7], [3, 7], [7, 3], [3]]).chained()
    a = keys.ids.tolist()
    assert len(set(a[:3])) == 3  # the same text at three places has three keys
    assert a[3:5] == a[:2] and a[7] == a[0] and a[9] == a[5]
    assert len({*a}) == 6  # [7], [7 7], [7 7 7], [3], [3 7], [7 3]
    same = blocks([[1, 2, 3], [1, 2, 9], [], [4]])
    assert same.chained() is same


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=8))
def test_keys_are_equal_exactly_where_beginnings_are(contents):
    prefix = blocks(contents)
    keys = prefix.chained().ids.tolist()
    beginnings = [tuple(c[: k + 1]) for c in contents for k in range(len(c))]
    assert [[x == y for y in keys] for x in keys] == [[x == y for y in beginnings] for x in beginnings]


def test_repeated_ids_in_a_prompt_leak_nothing(tmp_path):
    path = trace(tmp_path, [[7, 7, 7], [7, 7, 7], [7, 9, 9], [9, 7, 7]], [1500, 1500, 1537 - 1, 1500])
    result = run(path, blocks=400)
    assert result.records.counters["kv_blocks_in_use_at_end"] == 0
    # Full blocks only: two of the second prompt, the one in common of the third, none of a prompt that begins otherwise.
    assert result.records.requests.cached_tokens.tolist() == [0, 1024, 512, 0]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_run_with_an_endless_cache_finds_what_trace_info_says(tmp_path_factory, data):
    n = data.draw(st.integers(2, 8))
    contents = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=n, max_size=n))
    # Any length that so many ids can stand for: the last block full, or filled in part.
    tokens = [512 * (len(c) - 1) + data.draw(st.sampled_from([1, 100, 511, 512])) for c in contents]
    path = trace(tmp_path_factory.mktemp("t"), contents, tokens)
    said = trace_statistics(read_trace(path, "mooncake", block_tokens=512))["prefix"]["token_hit_ratio"]
    found = run(path, block_tokens=512).records.requests.cached_tokens
    assert found.sum() / sum(tokens) == pytest.approx(said, abs=1e-12)
    # Smaller blocks find, of a prompt that is known in full, all but the last of them.
    known = [n == 512 * len(c) and any(m >= n and c == d[: len(c)] for m, d in zip(tokens[:k], contents[:k], strict=True))
             for k, (n, c) in enumerate(zip(tokens, contents, strict=True))]  # fmt: skip
    in_small_blocks = run(path, block_tokens=16).records.requests.cached_tokens
    assert (in_small_blocks - found).tolist() == [(512 - 16) * whole for whole in known]


def test_no_more_reuse_than_the_prompts_have():
    # One block is shared, of which the prompts fill 20 tokens of 512: no cache keeps it.
    reuse = prefix_reuse(blocks([[0], [0], [0]], 512), np.array([20, 20, 20]))
    assert reuse["token_hit_ratio"] == 0
    # Prompts that the source failed to serve leave nothing in a cache, and find nothing.
    served = np.array([False, True, True])
    reuse = prefix_reuse(blocks([[0, 1], [0, 1], [0, 1]]), np.array([40, 40, 40]), served)
    assert reuse["token_hit_ratio"] == pytest.approx(32 / 80) and reuse["block_hit_ratio"] == 0.5 and reuse["blocks"] == 4
    # A prompt that is known in full still computes one token.
    assert prefix_reuse(blocks([[0, 1], [0, 1]]), np.array([32, 32]))["token_hit_ratio"] == 16 / 64
    # Equal blocks after different beginnings are not the same prefix.
    assert prefix_reuse(blocks([[1, 2, 3], [2, 3]]), np.array([48, 33]))["token_hit_ratio"] == 0


def test_a_cache_that_can_find_nothing_is_said(tmp_path):
    def notes(path: str, caching: bool) -> list[str]:
        cluster = {"instances": [{"kv": {"prefix_caching": caching}}]}
        result = simserve.run({**MODEL, "workload": {"trace": {"path": path}}, "cluster": cluster})
        return [w for w in result.summary_dict()["warnings"] if "Prefix caching is on, but the trace does not say" in w]

    lengths = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,50,3\n1,50,3\n")
    assert len(notes(str(lengths), True)) == 1 and notes(str(lengths), False) == []
    assert notes(str(trace(tmp_path, [[1], [1]], [512, 512])), True) == []
