"""The hit rate of prefix caches, by hand: prompt tokens found at the first admission over prompt tokens looked up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import simserve
from simserve.cli import main
from simserve.engine.records import RunRecords
from simserve.report import Result
from simserve.report.compare.terminal import compare_table
from simserve.report.terminal import summary_table
from tests.engine.test_prefix_cache import serve, table
from tests.report.printed import printed

THREE = table([0.0, 1000.0, 2000.0], [[1, 2, 3], [1, 2, 3], [9, 2, 3]], [96, 96, 100], [4, 4, 4])


def hits(records: RunRecords, **options: float) -> dict | None:
    return Result(records, {}, **options).summary_dict()["prefix_cache"]


def test_the_rate_is_found_over_looked_up_tokens() -> None:
    # Runs of 32 tokens. The second prompt is the first again: two of three runs are used, since one token is always computed.
    assert hits(serve(THREE)) == {"requests": 3, "looked_up_tokens": 292, "hit_tokens": 64, "hit_rate": pytest.approx(64 / 292)}


def test_the_measured_window_counts() -> None:
    records = serve(THREE)
    found = hits(records, warmup_s=500.0)
    assert found is not None and found["looked_up_tokens"] == 196 and found["hit_tokens"] == 64


def test_prompts_that_share_nothing_have_a_rate_of_0_and_no_cache_has_none() -> None:
    unique = table([0.0, 10.0], [[1, 2], [3, 4]], [64, 64], [2, 2])
    found = hits(serve(unique))
    assert found is not None and found["hit_rate"] == 0.0 and found["looked_up_tokens"] == 128
    assert hits(serve(THREE, caching=False)) is None


def test_a_request_that_never_had_a_first_token_was_not_looked_up() -> None:
    records = serve(table([0.0, 1.0], [[1], list(range(2, 40))], [40, 1216], [2, 2]))
    assert np.isnan(records.requests.first_token_s[1]), "too long for the cache"
    found = hits(records)
    assert found is not None and found["requests"] == 1 and found["looked_up_tokens"] == 40


def test_every_view_shows_it(tmp_path, capsys) -> None:
    shared = Result(serve(THREE), {"name": "shared"})
    for text in (printed(summary_table(shared), 80), printed(compare_table([shared, shared]), 80), shared._repr_html_()):
        assert "Prefix cache hit rate" in text and "21.9 %" in text
    page = shared.write(tmp_path / "r", plots=False) / "report.html"
    assert "Prefix cache hit rate" in page.read_text() and "21.9 %" in page.read_text()
    assert main(["compare", str(tmp_path / "r"), str(tmp_path / "r"), "--json"]) == 0
    figures = {figure["name"]: figure["values"] for figure in json.loads(capsys.readouterr().out)["figures"]}
    assert figures["Prefix cache hit rate"] == [pytest.approx(64 / 292)] * 2
    none = Result(serve(THREE, caching=False), {"name": "none"})
    assert "Prefix cache" not in printed(summary_table(none), 80)


LENGTHS = {"prompt": {"kind": "fixed", "tokens": 500}, "output": {"kind": "fixed", "tokens": 5}}
SESSIONS = {"days": 0.01, "multi_turn": True, "limit": 10}


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ({"trace": {"path": "told.jsonl"}}, ""),
        ({"trace": {"path": "told.jsonl"}, "lengths": LENGTHS}, "workload.lengths replaces the prompts of the trace"),
        ({"burstgpt_like": SESSIONS}, "prefix_block_tokens is not stated"),
        ({"burstgpt_like": SESSIONS | {"prefix_block_tokens": 16}}, ""),
        ({"lengths": LENGTHS, "arrivals": {"kind": "constant", "rate_per_s": 5.0}, "count": 5}, ""),
    ],
)
def test_a_cache_that_cannot_find_anything_says_why(workload: dict, words: str, tmp_path: Path) -> None:
    rows = [{"timestamp": 300 * i, "input_length": 1500, "output_length": 5, "hash_ids": [1, 2, 3 + i]} for i in range(20)]
    (tmp_path / "told.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "trace" in workload:
        workload = workload | {"trace": {"path": str(tmp_path / "told.jsonl")}}
    caching = {"instances": [{"kv": {"prefix_caching": True}}]}
    result = simserve.run({"model": "llama-3-8b", "hardware": "h100-sxm-80gb", "cluster": caching, "workload": workload}).summary_dict()
    said = [warning for warning in result["warnings"] if "Prefix caching is on" in warning]
    assert len(said) == bool(words) and all(words in one for one in said)
    known = "trace" in workload or "prefix_block_tokens" in workload.get("burstgpt_like", {})
    assert (result["prefix_cache"] is not None) == (known and not words)
