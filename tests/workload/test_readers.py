"""Each format is read as its publisher means it."""

from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pytest

from simserve.workload.trace import read_trace
from tests.workload.traces import AZURE, V1, V3, shared, write


def test_burstgpt_v1_rows_labels_and_failures(tmp_path):
    rows = "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,0,0,0,API log\n45,ChatGPT,7,9,16,API log\n"
    t = read_trace(write(tmp_path, V1 + rows))
    assert t.arrival_s.tolist() == [0, 40, 40]
    assert t.prompt_tokens.tolist() == [472, 0, 7] and t.output_tokens.tolist() == [18, 0, 9]
    assert [t.label_model.names[c] for c in t.label_model.codes] == ["ChatGPT", "GPT-4", "ChatGPT"]
    assert [t.log_type.names[c] for c in t.log_type.codes] == ["Conversation log", "API log", "API log"]
    assert t.provenance["failures"] == 1 and t.provenance["format"] == "burstgpt" and t.provenance["first_timestamp_s"] == 5
    assert np.all(t.session == -1)


def test_burstgpt_v3_sessions_are_numbered_and_api_rows_have_none(tmp_path):
    rows = "10.0,s-b,3,GPT-4,5,6,11,Conversation log\n11.5,,0,ChatGPT,1,1,2,API log\n12,s-a,1,GPT-4,5,6,11,Conversation log\n"
    rows += "40,s-b,2,GPT-4,50,6,56,Conversation log\n"
    t = read_trace(write(tmp_path, V3 + rows))
    assert t.session.tolist() == [0, -1, 1, 0]
    assert t.arrival_s.tolist() == [0, 1.5, 2, 30]


def test_dependent_sessions_wait_for_the_answer_and_think(tmp_path):
    rows = "10,a,3,GPT-4,5,6,11,Conversation log\n12,b,1,GPT-4,5,6,11,Conversation log\n40,a,50,GPT-4,9,6,56,Conversation log\n"
    rows += "41,a,0,GPT-4,9,6,56,Conversation log\n"
    t = read_trace(write(tmp_path, V3 + rows), sessions="dependent", rate_scale=2)
    assert t.after.tolist() == [-1, -1, 0, 2]
    # Own arrivals are scaled, think times are not: 40 - 10 - 3 elapsed; the last gap is shorter than the answer took.
    assert t.arrival_s.tolist() == [0, 1, 27, 0]


def test_azure_keeps_100_ns_and_crosses_midnight(tmp_path):
    rows = "2023-11-16 23:59:59.5000001,374,44\n2023-11-17 00:00:01.0000002,1,2\n"
    t = read_trace(write(tmp_path, AZURE + rows))
    assert t.arrival_s == pytest.approx([0.0, 1.5000001], abs=2e-8)


def test_mooncake_milliseconds_and_prefix_blocks(tmp_path):
    lines = [{"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
             {"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [0, 9]}]  # fmt: skip
    t = read_trace(write(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "t.jsonl"))
    assert t.arrival_s.tolist() == [0, 2.5] and t.prefix.block_tokens == 512
    assert t.prefix.offsets.tolist() == [0, 2, 4] and t.prefix.ids.tolist() == [0, 1, 0, 9]


def test_vidur_has_lengths_and_no_arrivals(tmp_path):
    t = read_trace(write(tmp_path, "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.9\n10,2,12,5\n"))
    assert t.prompt_tokens.tolist() == [3772, 10] and t.provenance["has_arrivals"] is False


def test_gzip_and_carriage_returns_and_a_byte_order_mark_change_nothing(tmp_path):
    text = V1 + "5,ChatGPT,472,18,490,Conversation log\n9,GPT-4,1,2,3,API log\n"
    plain = read_trace(write(tmp_path, text))
    crlf = tmp_path / "crlf.csv"
    crlf.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (crlf, packed):
        other = read_trace(path)
        assert other.arrival_s.tolist() == plain.arrival_s.tolist() and other.output_tokens.tolist() == plain.output_tokens.tolist()
        assert other.log_type.names == plain.log_type.names


def test_unsorted_times_are_sorted_stably_and_said_so(tmp_path):
    rows = "9,GPT-4,1,1,2,API log\n5,ChatGPT,2,1,3,Conversation log\n9,ChatGPT,3,1,4,API log\n5,GPT-4,4,1,5,API log\n"
    t = read_trace(write(tmp_path, V1 + rows))
    assert t.prompt_tokens.tolist() == [2, 4, 1, 3] and t.arrival_s.tolist() == [0, 0, 4, 4]
    assert [t.label_model.names[c] for c in t.label_model.codes] == ["ChatGPT", "GPT-4", "GPT-4", "ChatGPT"]
    assert t.provenance["sorted_by_us"] is True


@pytest.mark.shared
def test_azure_conversation_is_read_in_60_ms():
    path = shared("azure-2023/AzureLLMInferenceTrace_conv.csv.gz")
    read_trace(path)  # imports
    best = min(_seconds(path) for _ in range(5))
    assert best < 0.06


def _seconds(path) -> float:
    begin = time.perf_counter()
    read_trace(path)
    return time.perf_counter() - begin


PUBLISHED = [
    # file, rows, failures, mean prompt and output of successful rows, last arrival (traces/README.md of the data folder)
    ("burstgpt/BurstGPT_1_first7days.csv.gz", 19431, 1538, 682.8, 264.4, None),
    ("burstgpt/BurstGPT_3_first400.csv.gz", 400, 1, 618.9, 171.3, None),
    ("azure-2023/AzureLLMInferenceTrace_code.csv.gz", 8819, 0, 2047.8, 27.9, 3435.9),
    ("azure-2023/AzureLLMInferenceTrace_conv.csv.gz", 19366, 0, 1154.7, 211.1, 3501.7),
    ("mooncake/conversation_trace.jsonl.gz", 12031, 0, 12035, 342.6, 3537.0),
    ("mooncake/synthetic_trace.jsonl.gz", 3993, 0, 15326, 149.1, 1022.0),
    ("ragpulse/0_trace.jsonl.gz", 7106, 0, 2943.6, 283.2, 604603),
    ("vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz", 28257, 0, 2588.1, 291.4, None),
]


def test_ties_keep_their_order_when_a_long_trace_is_sorted(tmp_path):
    rng = np.random.default_rng(0)
    times = rng.integers(0, 10, 3000)
    t = read_trace(write(tmp_path, AZURE + "".join(f"2023-11-16 18:00:0{s},{i},1\n" for i, s in enumerate(times, 1))))
    assert np.array_equal(t.prompt_tokens, np.concatenate([np.flatnonzero(times == s) + 1 for s in range(10)]))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows", "failures", "prompt", "output", "last_s"), PUBLISHED)
def test_published_traces_have_their_published_figures(name, rows, failures, prompt, output, last_s):
    t = read_trace(shared(name))
    ok = t.output_tokens > 0
    assert len(t) == rows and t.provenance["failures"] == failures
    assert t.prompt_tokens[ok].mean() == pytest.approx(prompt, rel=1e-3) and t.output_tokens[ok].mean() == pytest.approx(output, rel=1e-3)
    if last_s is not None:
        assert t.arrival_s[-1] == pytest.approx(last_s, abs=0.1)


@pytest.mark.shared
def test_ragpulse_sessions_and_one_inversion():
    t = read_trace(shared("ragpulse/0_trace.jsonl.gz"))
    assert len(np.unique(t.session)) == 3990 and t.provenance["sorted_by_us"] is True
    counts = np.diff(t.prefix.offsets)
    assert np.all(counts * t.prefix.block_tokens <= t.prompt_tokens)
