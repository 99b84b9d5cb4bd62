"""The `workload:` section means what its keys say."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from simserve.errors import ConfigError, TraceError
from simserve.workload.config import WorkloadConfig, build_workload
from tests.workload.traces import V1, write

ROWS = "".join(
    f"{i},{'GPT-4' if i % 4 == 0 else 'ChatGPT'},{100 + i},{10 + i % 7},0,{'API log' if i % 2 else 'Conversation log'}\n"
    for i in range(200)
)


def build(section: dict, folder=None, seed: int = 0):
    return build_workload(WorkloadConfig.model_validate(section), folder, seed)


def test_generated_requests_by_count_and_by_duration(tmp_path):
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 9}}
    section = {"arrivals": {"kind": "poisson", "rate_per_s": 3.5}, "lengths": lengths, "count": 500}
    w = build(section, tmp_path)
    assert len(w.requests) == 500 and w.concurrency is None and set(w.requests.prompt_tokens) == {100}
    assert np.array_equal(w.requests.arrival_s, build(section, tmp_path).requests.arrival_s)
    assert not np.array_equal(w.requests.arrival_s, build(section, tmp_path, seed=1).requests.arrival_s)
    del section["count"]
    assert build({**section, "duration_s": 100.0}, tmp_path).requests.arrival_s[-1] < 100


def test_lengths_do_not_change_with_the_arrivals(tmp_path):
    lengths = {"prompt": {"kind": "lognormal", "median_tokens": 100, "sigma": 1}, "output": {"kind": "fixed", "tokens": 1}}
    slow, fast = (
        build({"arrivals": {"kind": "gamma", "rate_per_s": r, "cv": 2}, "lengths": lengths, "count": 50}, tmp_path) for r in (1, 9)
    )
    assert np.array_equal(slow.requests.prompt_tokens, fast.requests.prompt_tokens)
    assert np.allclose(slow.requests.arrival_s, 9 * fast.requests.arrival_s)


def test_trace_relative_to_the_experiment_and_its_options(tmp_path):
    write(tmp_path, V1 + ROWS)
    trace = {
        "path": "trace.csv",
        "format": "burstgpt",
        "start_s": 50,
        "duration_s": 100,
        "rate_scale": 8,
        "filter": {"log_type": "API log"},
    }
    t = build({"trace": trace}, tmp_path).requests
    assert len(t) == 50 and t.prompt_tokens[0] == 151 and t.arrival_s[-1] == pytest.approx((149 - 50) / 8)
    assert t.provenance["options"]["rate_scale"] == 8 and t.provenance["file"] == "trace.csv"


def test_arrivals_replace_those_of_a_trace_and_pairs_stay(tmp_path):
    write(tmp_path, V1 + ROWS)
    section = {"trace": {"path": "trace.csv"}, "arrivals": {"kind": "constant", "rate_per_s": 2}}
    t = build(section, tmp_path).requests
    assert np.allclose(np.diff(t.arrival_s), 0.5) and np.array_equal(t.prompt_tokens, 100 + np.arange(200))
    assert len(build({**section, "duration_s": 10.2}, tmp_path).requests) == 20


def test_empirical_lengths_come_in_pairs_from_successful_rows(tmp_path):
    write(tmp_path, V1 + ROWS + "999,ChatGPT,0,0,0,API log\n")
    w = build({"lengths": {"trace": {"path": "trace.csv"}}, "count": 3000, "closed_loop": {"concurrency": 4, "think_s": 1.5}}, tmp_path)
    pairs = {(100 + i, 10 + i % 7) for i in range(200)}
    assert set(zip(w.requests.prompt_tokens.tolist(), w.requests.output_tokens.tolist(), strict=True)) == pairs
    assert (w.concurrency, w.think_s) == (4, 1.5)


def test_lengths_only_traces_need_arrivals(tmp_path):
    write(tmp_path, "num_prefill_tokens,num_decode_tokens\n10,2\n20,3\n")
    with pytest.raises(ConfigError, match="arrivals"):
        build({"trace": {"path": "trace.csv", "format": "vidur"}}, tmp_path)
    t = build({"trace": {"path": "trace.csv"}, "arrivals": {"kind": "constant", "rate_per_s": 1}}, tmp_path).requests
    assert t.arrival_s.tolist() == [1, 2] and t.provenance["has_arrivals"]
    assert build({"trace": {"path": "trace.csv"}, "closed_loop": {"concurrency": 1}}, tmp_path).concurrency == 1


def test_slo_classes_by_label_then_by_fraction(tmp_path):
    write(tmp_path, V1 + ROWS)
    rules = [{"name": "chat", "fraction": 0.5, "priority": 2}, {"name": "premium", "model": "GPT-4", "priority": 5}]
    t = build({"trace": {"path": "trace.csv", "resample": 20_000}, "slo_classes": rules, "priority": 1}, tmp_path).requests
    names = np.array(t.slo_class.names)[t.slo_class.codes]
    gpt4 = np.array(t.label_model.names)[t.label_model.codes] == "GPT-4"
    assert np.array_equal(names == "premium", gpt4)
    assert (names[~gpt4] == "chat").mean() == pytest.approx(0.5, abs=0.02) and set(names) == {"chat", "premium", "default"}
    assert (
        set(t.priority[names == "premium"]) == {5}
        and set(t.priority[names == "default"]) == {1}
        and set(t.priority[names == "chat"]) == {2}
    )


def test_stated_output_limits_bind(tmp_path):
    write(tmp_path, V1 + ROWS)
    t = build({"trace": {"path": "trace.csv"}, "max_output_tokens": 12}, tmp_path).requests
    assert set(t.max_output_tokens) == {12} and t.output_tokens.max() == 12
    t = build({"trace": {"path": "trace.csv"}, "max_output_tokens": "output"}, tmp_path).requests
    assert np.array_equal(t.max_output_tokens, t.output_tokens)


def test_burstgpt_like_source(tmp_path):
    t = build({"burstgpt_like": {"days": 0.1, "start_day": 9.5, "rate_scale": 2, "seed": 4}}, tmp_path).requests
    assert len(t) > 10 and t.arrival_s[-1] <= 0.05 * 86400
    chat = build(
        {"burstgpt_like": {"days": 0.2, "start_day": 9.4, "api": False, "multi_turn": True, "sessions": "dependent"}}, tmp_path
    ).requests
    assert np.any(chat.after >= 0)


def test_the_default_workload_is_an_hour_of_the_sample_at_eight_times_its_rate(tmp_path):
    trace = {"format": "burstgpt", "path": "traces/burstgpt-sample.csv", "start_s": 0, "duration_s": 3600, "rate_scale": 8}
    t = build({"trace": trace}, tmp_path).requests
    rate = len(t) / 450
    assert 1 < rate < 4 and t.arrival_s[-1] < 450
    assert np.bincount((t.arrival_s // 5).astype(int)).max() / 5 > 5 * rate  # a burst is in it
    assert (t.prompt_tokens + t.output_tokens).max() <= 4096


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "needs a 'trace'"),
        (
            {"lengths": {"prompt": {"kind": "fixed", "tokens": 1}}, "count": 1, "closed_loop": {"concurrency": 1}},
            "both 'prompt' and 'output'",
        ),
        ({"trace": {"path": "a"}, "burstgpt_like": {}}, "one source"),
        ({"trace": {"path": "a"}, "count": 3}, "comes from the source"),
        ({"trace": {"path": "a", "rate_scales": 3}}, "rate_scales"),
        ({"trace": {"path": "a", "format": "burst"}}, "format"),
        ({"trace": {"path": "a"}, "slo_classes": [{"name": "x", "fraction": 0.7}, {"name": "y", "fraction": 0.7}]}, "more than 1"),
        ({"trace": {"path": "a"}, "slo_classes": [{"name": "x"}]}, "by label"),
        ({"trace": {"path": "a"}, "closed_loop": {"concurrency": 0}}, "concurrency"),
    ],
)
def test_sections_that_make_no_sense(section, words):
    with pytest.raises(ValidationError, match=words):
        WorkloadConfig.model_validate(section)


def test_traces_that_are_not_there(tmp_path):
    with pytest.raises(TraceError, match="did you mean 'burstgpt-sample'"):
        build({"trace": {"path": "burstgpt-sampel"}}, tmp_path)
    with pytest.raises(TraceError, match="no such trace file"):
        build({"trace": {"path": "some/where.csv"}}, tmp_path)


def test_open_arrivals_may_be_under_a_cap(tmp_path):
    lengths = {"prompt": {"kind": "fixed", "tokens": 8}, "output": {"kind": "fixed", "tokens": 8}}
    section = {"arrivals": {"kind": "constant", "rate_per_s": 2}, "lengths": lengths, "count": 5, "max_concurrency": 3}
    w = build(section, tmp_path)
    assert (w.max_concurrency, w.concurrency) == (3, None) and w.requests.arrival_s[0] == 0.5
    write(tmp_path, V1 + ROWS)
    assert build({"trace": {"path": "trace.csv"}, "max_concurrency": 7}, tmp_path).max_concurrency == 7
    with pytest.raises(ValidationError, match="its own 'concurrency' is the number"):
        build({"lengths": lengths, "count": 5, "closed_loop": {"concurrency": 2}, "max_concurrency": 3}, tmp_path)
    with pytest.raises(ValidationError):
        build(section | {"max_concurrency": 0}, tmp_path)
