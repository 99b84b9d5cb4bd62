"""Results of benchmark clients against servers that drafted tokens: they are simulated with what the result says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simserve.validation.case import Case
from simserve.validation.evaluate import predict_one
from simserve.validation.readers.client_results import completed_by, read
from tests.validation import results

EAGLE3 = {"model_path": results.MODEL, "tp_size": 1, "speculative_algorithm": "EAGLE3", "speculative_num_steps": 3}


def case(folder: Path, document: dict[str, Any]) -> Case:
    (folder / "run.json").write_text(json.dumps(document))
    (found,) = completed_by(hardware="h100-sxm-80gb")(read(folder / "run.json"))
    return found


def sglang(length: float | None, **server: Any) -> dict[str, Any]:
    return results.sglang(accept_length=length, server_info={**EAGLE3, **server})


def test_sglang_says_who_drafted_how_much_and_what_was_accepted(tmp_path: Path) -> None:
    found = case(tmp_path, sglang(2.5))
    assert not found.skip and found.settings["speculation"] == {"method": "eagle3", "tokens": 3, "length": 2.5}
    tree = case(tmp_path, sglang(2.5, speculative_eagle_topk=4, speculative_num_draft_tokens=8))
    assert tree.settings["speculation"] == {"method": "eagle3", "tokens": 3, "length": 2.5, "top_k": 4, "verify_tokens": 8}


def test_vllm_counts_drafts_and_metadata_say_whose(tmp_path: Path) -> None:
    counts = {"spec_decode_num_drafts": 100, "spec_decode_draft_tokens": 300, "spec_decode_accepted_tokens": 150}
    found = case(tmp_path, results.vllm(**counts, speculative_method="eagle3"))
    assert not found.skip and found.settings["speculation"] == {"method": "eagle3", "tokens": 3, "length": 2.5}
    assert "speculative_method=eagle3" in case(tmp_path, results.vllm(**counts)).skip


def test_the_run_is_simulated_with_its_drafts(tmp_path: Path) -> None:
    plain = case(tmp_path, results.sglang(server_info={"model_path": results.MODEL, "tp_size": 1}))
    few, many = (case(tmp_path, sglang(length)) for length in (1.2, 3.8))
    told = [predict_one(replace(found, settings=found.settings)).predicted["tpot_mean"] for found in (few, plain, many)]
    assert told[2] < 0.5 * told[1] < 0.5 * told[0], "accepting next to nothing is slower than not drafting, accepting all twice as fast"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (sglang(None), "how many tokens it drafted and accepted"),
        (sglang(4.5), "3 tokens in a row and got 4.5 a step"),
        (sglang(2.5, speculative_algorithm="STANDALONE"), "'STANDALONE'"),
        (sglang(2.5, speculative_num_steps=None), "how many tokens it drafted and accepted"),
        (sglang(2.5, speculative_num_steps=3000), "3000 tokens in a row"),
        (sglang(2.5, speculative_num_steps="three"), "speculative_num_steps"),
        (results.vllm(spec_decode_num_drafts=10, speculative_method="medusa"), "'medusa'"),
    ],
)  # fmt: skip
def test_a_run_that_says_too_little_is_skipped_with_the_reason(tmp_path: Path, document: dict[str, Any], says: str) -> None:
    found = case(tmp_path, document)
    assert says in found.skip, found.skip
