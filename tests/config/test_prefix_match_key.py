"""`kv.prefix_match`: from the experiment's words to what a run finds in its prefix cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.errors import SimserveError


def experiment(folder: Path, run_tokens: int, **kv: Any) -> dict[str, Any]:
    """Two prompts of 100 tokens that are alike in 90, their contents told in runs of `run_tokens`, the second long after the first."""
    runs = -(-100 // run_tokens)
    rows = []
    for row in range(2):
        ids = [k if (k + 1) * run_tokens <= 90 or row == 0 else 1000 + k for k in range(runs)]
        rows.append(
            {"arrival_s": 50.0 * row, "prompt_tokens": 100, "output_tokens": 3, "prefix_ids": ids, "prefix_block_tokens": run_tokens}
        )
    (folder / "two.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return {
        "name": "two",
        "model": "llama-2-7b",
        "hardware": "a100-sxm-80gb",
        "engine": "vllm-v1",
        "cluster": {"instances": [{"kv": {"block_tokens": 16, **kv}}]},
        "workload": {"trace": {"path": str(folder / "two.jsonl")}},
    }


def found(folder: Path, run_tokens: int, **kv: Any) -> int:
    result = simserve.run(experiment(folder, run_tokens, **kv), check=True)
    return int(result.requests["cached_tokens"].iloc[1])


def test_by_token_a_match_may_end_anywhere(tmp_path: Path) -> None:
    assert found(tmp_path, 1, prefix_match="token") == 90
    assert found(tmp_path, 16, prefix_match="token") == found(tmp_path, 16) == 80
    assert found(tmp_path, 10, prefix_match="token") == 90, "runs and blocks of any sizes"


def test_sizes_that_do_not_fit_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SimserveError, match=r"found block_tokens 16; kv.prefix_match: token matches whatever their sizes"):
        found(tmp_path, 10)


def test_other_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SimserveError, match=r"prefix_match.*'tokens'.*token"):
        simserve.load(experiment(tmp_path, 1, prefix_match="tokens"))


def test_the_profile_of_xy_serve_matches_by_token(tmp_path: Path) -> None:
    loaded = simserve.load({**experiment(tmp_path, 1), "engine": "xy-serve", "hardware": "ascend-910b"})
    assert loaded.groups[0].kv.prefix_match == "token" and loaded.groups[0].policy == "xy-serve"


def test_a_trace_that_is_coarser_than_tokens_is_said_so(tmp_path: Path) -> None:
    def notes(run_tokens: int, **kv: Any) -> list[str]:
        return [
            note for note in simserve.run(experiment(tmp_path, run_tokens, **kv)).summary_dict()["warnings"] if "token by token" in note
        ]

    assert notes(16, prefix_match="token") == [
        "Prompts are matched token by token, but the trace tells what they contain in blocks of 16 tokens: matches end with such a block,"
        " or where a prompt ends."
    ]
    assert not notes(1, prefix_match="token") and not notes(16)


def test_drafted_tokens_are_of_decoding_sequences(tmp_path: Path) -> None:
    probes = {"verify": {"measure": "prefill_s", "drafted_tokens": 3}}
    with pytest.raises(SimserveError, match="drafted_tokens is for decode_s, this probe measures prefill_s"):
        simserve.load({**experiment(tmp_path, 1), "probes": probes})
