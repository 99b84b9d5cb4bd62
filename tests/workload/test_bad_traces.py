"""A broken trace gets one message that names the file and the line."""

from __future__ import annotations

import gzip

import pytest

from simserve.errors import TraceError
from simserve.workload.trace import read_trace, write_trace
from tests.workload.traces import AZURE, V1, V3, write

GOOD = "5,ChatGPT,472,18,490,Conversation log\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("  \n\n", ["is empty"]),
        (V1, ["no rows"]),
        (V1 + GOOD + "7,ChatGPT,-3,18,490,Conversation log\n", ["line 3", "Request tokens", "-3", "negative"]),
        (V1 + GOOD + GOOD + "nan,ChatGPT,3,18,490,Conversation log\n", ["line 4", "Timestamp", "finite"]),
        (V1 + GOOD + "inf,ChatGPT,3,18,490,Conversation log\n", ["line 3", "Timestamp", "finite"]),
        (V1 + GOOD + "-1,ChatGPT,3,18,490,Conversation log\n", ["line 3", "Timestamp", "negative"]),
        (V1 + GOOD + "7,ChatGPT,lots,18,490,Conversation log\n", ["line 3", "Request tokens", "lots", "number"]),
        (V1 + GOOD + "7,ChatGPT,3.5,18,490,Conversation log\n", ["line 3", "Request tokens", "3.5", "whole"]),
        (V1 + GOOD + "7,ChatGPT,,18,490,Conversation log\n", ["line 3", "Request tokens"]),
        (V1 + GOOD + "7,Chat", ["line 3", "2 fields", "6"]),
        (V1 + "\n" + GOOD + "\n7,ChatGPT,-3,18,490,Conversation log\n", ["line 5", "-3"]),
        ("Timestamp,Model,Request tokens,Log Type\n1,a,2,b\n", ["line 1", "Response tokens", "missing"]),
        (AZURE + "2023-11-16 18:15:46.68,374,44\nyesterday,1,1\n", ["line 3", "TIMESTAMP", "yesterday"]),
        (AZURE + "2023-11-16 18:15:46.68,374,44\n,1,1\n", ["line 3", "TIMESTAMP"]),
        ("time,tokens\n1,2\n", ["line 1", "no known trace format", "burstgpt"]),
        ("arrival_s,prompt_tokens,output_tokens,oops\n0,1,1,1\n", ["unknown column 'oops'", "prefix_ids"]),
        ("arrival_s,prompt_tokens,output_tokens,after\n0,1,1,-1\n0,1,1,5\n", ["row 1", "after"]),
        ("arrival_s,prompt_tokens,output_tokens,prefix_ids,prefix_block_tokens\n0,1,1,1 x,16\n", ["row 1", "prefix_ids", "1 x"]),
    ],
)  # fmt: skip
def test_csv_mistakes(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as e:
        read_trace(path)
    message = str(e.value)
    assert str(path) in message and "\n" not in message
    assert [w for w in words if w not in message] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"timestamp": 1, "input_length": 5, "output_len', ["line 2", "not JSON"]),
        ("[1, 2]", ["line 2", "object"]),
        ('{"timestamp": 1, "output_length": 5, "hash_ids": []}', ["line 2", "input_length", "missing"]),
        ('{"timestamp": 1, "input_length": -5, "output_length": 5, "hash_ids": []}', ["line 2", "input_length", "negative"]),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 5, "hash_ids": []}', ["line 2", "timestamp", "finite"]),
        ('{"timestamp": 1, "input_length": true, "output_length": 5, "hash_ids": []}', ["line 2", "input_length", "number"]),
        ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": ["a"]}', ["line 2", "hash_ids", "integers"]),
    ],
)
def test_json_lines_mistakes(tmp_path, line, words):
    good = '{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}\n'
    with pytest.raises(TraceError) as e:
        read_trace(write(tmp_path, good + line, "t.jsonl"))
    assert [w for w in words if w not in str(e.value)] == []


def test_missing_file_folder_binary_and_cut_gzip(tmp_path):
    with pytest.raises(TraceError, match="no such trace file"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(TraceError, match="folder"):
        read_trace(tmp_path)
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"Timestamp,Model\n\x00\x01\x02")
    with pytest.raises(TraceError, match="line 2 holds binary data"):
        read_trace(binary)
    latin = tmp_path / "l.csv"
    latin.write_bytes((V1 + GOOD).encode() + b"7,Chat\xff,1,1,2,API log\n")
    with pytest.raises(TraceError, match="line 3: not UTF-8"):
        read_trace(latin)
    cut = tmp_path / "c.csv.gz"
    cut.write_bytes(gzip.compress((V1 + GOOD * 1000).encode())[:-20])
    with pytest.raises(TraceError, match="cut short"):
        read_trace(cut)


def test_cut_parquet(tmp_path):
    path = write_trace(read_trace(write(tmp_path, V1 + GOOD)), tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(TraceError, match="damaged or cut short"):
        read_trace(path)


def test_options_that_do_not_fit(tmp_path):
    path = write(tmp_path, V1 + GOOD + "3,GPT-4,1,1,2,API log\n")
    with pytest.raises(TraceError, match=r"request 2 arrives before the one above it"):
        read_trace(path, strict=True)
    with pytest.raises(TraceError, match="did you mean 'duration_s'"):
        read_trace(path, durations_s=3)
    with pytest.raises(TraceError, match="rate_scale"):
        read_trace(path, rate_scale=0)
    with pytest.raises(TraceError, match="did you mean 'burstgpt'"):
        read_trace(path, "burst-gpt")
    with pytest.raises(TraceError, match="Allowed: ChatGPT, GPT-4"):
        read_trace(path, model="GPT-5")
    with pytest.raises(TraceError, match="no request is left"):
        read_trace(path, start_s=100)
    with pytest.raises(TraceError, match="no sessions"):
        read_trace(path, sessions="dependent")
    with pytest.raises(TraceError, match="missing"):
        read_trace(path, "azure")
    v3 = write(tmp_path, V3 + "10,a,3,GPT-4,5,6,11,Conversation log\n", "v3.csv")
    with pytest.raises(TraceError, match="resample"):
        read_trace(v3, sessions="dependent", resample=5)
