"""Random workloads by kind: the same everywhere, and such that an engine starts with them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from simserve.errors import ConfigError
from simserve.validation.schedules.fixture import ScheduleCase, read_cases, write_cases
from simserve.validation.schedules.kinds import VLLM, kinds_of, workloads
from simserve.validation.schedules.workload import ScheduleSettings


@pytest.mark.parametrize("kind", VLLM)
def test_a_kind(kind):
    first, again, other = VLLM[kind](3), VLLM[kind](3), VLLM[kind](4)
    assert first == again and first.requests != other.requests
    assert (first.kind, first.seed) == (kind, 3) and first.name == f"{kind}-3"
    settings = first.settings
    for request in first.requests:
        assert 1 <= len(request.prefix_ids) * settings.block_tokens <= request.prompt_tokens or not request.prefix_ids
        assert request.prompt_tokens + request.most_output_tokens < settings.max_model_len
        assert request.abort_s is None or request.abort_s >= request.arrival_s
        assert request.accepted is None or len(request.accepted) == request.output_tokens
    arrivals = [request.arrival_s for request in first.requests]
    assert arrivals == sorted(arrivals) and 40 <= len(arrivals) <= 80
    assert settings.kv_blocks * settings.block_tokens >= settings.max_model_len  # vLLM does not start with less
    assert settings.chunked or settings.max_num_batched_tokens >= settings.max_model_len
    assert settings.max_num_batched_tokens >= settings.max_num_seqs
    assert 0 <= settings.long_prefill_token_threshold <= settings.max_model_len


def test_every_rule_has_a_kind():
    stated = {name for kind in VLLM for seed in range(4) for name in VLLM[kind](seed).settings.stated()}
    named = {one.name for one in fields(ScheduleSettings)} - OTHERS
    assert named <= stated


OTHERS = {
    "block_tokens",  # 16 everywhere
    "speculation_method",
    *("chunked_prefill_size", "max_prefill_tokens", "schedule_conservativeness", "mixed_chunk", "prefill_max_requests"),  # SGLang's
}


def test_many_over_some_kinds():
    found = workloads("vllm", ["tight", "prefix"], 5, 7)
    assert [one.name for one in found] == ["tight-7", "prefix-7", "tight-8", "prefix-8", "tight-9"]
    assert {one.kind for one in workloads("vllm", count=len(VLLM))} == set(VLLM) == set(kinds_of("vllm-ascend"))
    with pytest.raises(ConfigError, match=r"kind 'tigth': vllm has none of that name; did you mean 'tight'"):
        workloads("vllm", ["tigth"])


def test_files_have_them_unchanged(tmp_path):
    cases = [ScheduleCase(VLLM[kind](1)) for kind in VLLM]
    write_cases(tmp_path / "a.json.gz", cases)
    assert read_cases(tmp_path / "a.json.gz") == cases
