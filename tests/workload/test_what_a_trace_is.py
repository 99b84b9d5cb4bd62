"""A file is taken for what its content speaks for, and not for what it resembles."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simserve.errors import TraceError
from simserve.workload.trace import read_trace
from tests.workload.traces import V1, cases, write


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def bailian(n: int = 20) -> str:
    """Every half second a prompt of 960 tokens: 40 blocks of 16 tokens that all share, 20 of its own."""
    ids = [list(range(40)) + list(range(40 + 20 * k, 60 + 20 * k)) for k in range(n)]
    return lines(*({"chat_id": k, "parent_chat_id": -1, "timestamp": k / 2, "input_length": 960, "output_length": 100, "type": "text",
                    "turn": 1, "hash_ids": ids[k]} for k in range(n)))  # fmt: skip


def test_qwen_bailian_counts_seconds_and_blocks_of_16(tmp_path):
    t = read_trace(write(tmp_path, bailian(), "t.jsonl"))
    about = t.provenance["read_as"]
    assert t.provenance["format"] == "qwen-bailian" and (about["times_in"], about["block_tokens"]) == ("s", 16)
    assert t.arrival_s.tolist() == [k / 2 for k in range(20)]
    assert "20 of 20 prompts with ids have as many as blocks of 16 tokens" in about["told_by"]


def test_a_format_that_is_stated_of_another_ones_columns_is_told(tmp_path):
    """Put in the place of an experiment's trace, a file inherits the format that stood there."""
    path = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,10,5\n", "mine.csv")
    with pytest.raises(TraceError, match=r"'Timestamp' is missing.*'burstgpt', as stated .*workload.trace.format.* columns of 'simserve'"):
        read_trace(path, format="burstgpt")
    path = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,ten,5\n", "mine.csv")
    with pytest.raises(TraceError) as wrong:
        read_trace(path, format="simserve")
    assert "as stated" not in str(wrong.value), "of its own columns there is nothing to tell"


def test_a_clock_by_another_name_is_told_its_own(tmp_path):
    with pytest.raises(
        TraceError, match=r"unknown column 'timestamp'; times of arrival stand in 'arrival_s', in seconds\. Allowed: arrival_s"
    ):
        read_trace(write(tmp_path, "timestamp,prompt_tokens,output_tokens\n0,10,5\n", "mine.csv"))
    with pytest.raises(TraceError, match=r"unknown column 'arival'\. Allowed"):
        read_trace(write(tmp_path, "arrival_s,arival,prompt_tokens,output_tokens\n0,0,10,5\n", "mine.csv"))


def test_qwen_bailian_conversations_are_those_of_the_first_turn(tmp_path):
    row = {"input_length": 8, "output_length": 1}
    t = read_trace(write(tmp_path, lines(
        {"chat_id": 7, "parent_chat_id": -1, "timestamp": 0.0, "turn": 1, "type": "text", **row},
        {"chat_id": 8, "parent_chat_id": -1, "timestamp": 1.0, "turn": 1, "type": "search", **row},
        {"chat_id": 9, "parent_chat_id": 7, "timestamp": 4.0, "turn": 2, "type": "text", **row},
        {"chat_id": 12, "parent_chat_id": 9, "timestamp": 9.0, "turn": 3, "type": "image", **row},
        {"chat_id": 13, "parent_chat_id": 3, "timestamp": 9.5, "turn": 5, "type": "text", **row},  # its first turn is not in the excerpt
        {"chat_id": 14, "parent_chat_id": 3, "timestamp": 9.6, "turn": 5, "type": "text", **row},
    ), "t.jsonl"))  # fmt: skip
    assert t.session.tolist() == [0, 1, 0, 0, 2, 2]
    assert [t.log_type.names[c] for c in t.log_type.codes] == ["text", "search", "text", "image", "text", "text"]
    assert t.provenance["notes"] == ["1 request of type 'image': only the token counts are simulated"]
    d = read_trace(tmp_path / "t.jsonl", sessions="dependent")
    assert d.after.tolist() == [-1, -1, 0, 2, -1, 4] and d.arrival_s[2:4].tolist() == [4, 5]
    assert "no answer times" in d.provenance["notes"][-1]
    circle = lines({"chat_id": 1, "parent_chat_id": 2, "timestamp": 0, **row}, {"chat_id": 2, "parent_chat_id": 1, "timestamp": 1, **row})
    with pytest.raises(TraceError, match="line 1: 'parent_chat_id' of '1' leads back"):
        read_trace(write(tmp_path, circle, "c.jsonl"), "qwen-bailian")


@pytest.mark.parametrize("format", [None, "mooncake"])
def test_blocks_of_16_without_the_fields_of_qwen_bailian_are_a_question(tmp_path, format):
    keep = ("timestamp", "input_length", "output_length", "hash_ids")
    text = lines(*({key: record[key] for key in keep} for record in map(json.loads, bailian().splitlines())))
    path = write(tmp_path, text, "t.jsonl")
    with pytest.raises(TraceError) as e:
        read_trace(path, format)
    said = str(e.value)
    assert "line 1: 60 content ids for a prompt of 960 tokens" in said and "blocks of 512 tokens (format mooncake) would be 2" in said
    assert "--format mooncake --block-tokens 16" in said and "--format qwen-bailian" in said and "workload.trace.format" in said
    # Both answers are taken.
    ms = read_trace(path, "mooncake", block_tokens=16)
    assert ms.arrival_s[1] == 0.0005 and ms.prefix.block_tokens == 16
    assert read_trace(path, "mooncake", block_tokens=16, time_unit="s").arrival_s[1] == 0.5


def test_mooncake_fields_with_512_token_blocks_in_seconds_are_a_question(tmp_path):
    records = [{"timestamp": k / 2, "input_length": 1024, "output_length": 9, "hash_ids": [0, k + 1]} for k in range(30)]
    path = write(tmp_path, lines(*records), "t.jsonl")
    with pytest.raises(TraceError, match=r"seconds or milliseconds: as ms they are 2,000 requests/s.*--format mooncake.*time_unit"):
        read_trace(path)
    assert read_trace(path, time_unit="s").arrival_s[-1] == 14.5
    assert read_trace(path, "mooncake").arrival_s[-1] == 0.0145  # who states the format states its unit


def test_fractions_of_what_without_any_ids_are_a_question(tmp_path):
    records = [{"timestamp": 700.5 * k, "input_length": 100, "output_length": 9} for k in range(30)]
    path = write(tmp_path, lines(*records), "t.jsonl")
    with pytest.raises(TraceError, match=r"they are fractions.*State --format mooncake"):
        read_trace(path)
    whole = [{**record, "timestamp": int(record["timestamp"])} for record in records]
    t = read_trace(write(tmp_path, lines(*whole), "w.jsonl"))
    assert t.prefix is None and t.arrival_s[2] == 1.401


def test_milliseconds_in_a_trace_of_seconds_are_a_question(tmp_path):
    records = [json.loads(line) for line in bailian().splitlines()]
    slow = lines(*({**r, "timestamp": r["timestamp"] * 1e7} for r in records))
    with pytest.raises(TraceError, match=r"seconds or milliseconds: as s they are 2e-07 requests/s.*--time-unit ms"):
        read_trace(write(tmp_path, slow, "t.jsonl"))
    epoch = V1 + "1704067205000,ChatGPT,472,18,490,Conversation log\n"
    with pytest.raises(TraceError, match="line 2: 'Timestamp' is '1704067205000', which cannot be s; state its unit: --time-unit ms"):
        read_trace(write(tmp_path, epoch))
    assert read_trace(write(tmp_path, epoch + "1704067206500,GPT-4,1,1,2,API log\n"), time_unit="ms").arrival_s.tolist() == [0, 1.5]


def test_ids_that_are_too_many_or_too_few(tmp_path):
    good = [{"timestamp": 1000 * k, "input_length": 1500, "output_length": 3, "hash_ids": [0, k + 1, 100 + k]} for k in range(9)]
    odd = {"timestamp": 9500, "input_length": 600, "output_length": 3, "hash_ids": [0, 1, 100, 7]}
    t = read_trace(write(tmp_path, lines(*good, odd), "t.jsonl"))  # most speak for 512: the one that does not is cut, and that is said
    assert np.diff(t.prefix.offsets).tolist() == [3] * 9 + [2]
    assert t.provenance["notes"] == ["1 prompt had more content ids than blocks of 512 tokens: the rest was left out"]
    some = [{**r, "input_length": 6000} for r in good]
    with pytest.raises(TraceError, match=r"2048 tokens fit.*or --block-tokens 512, if the ids are those of a beginning"):
        read_trace(write(tmp_path, lines(*some), "s.jsonl"))
    t = read_trace(tmp_path / "s.jsonl", block_tokens=512)
    assert t.provenance["notes"] == ["9 prompts had content ids for a beginning only: the rest counts as never seen before"]
    none = [{**r, "hash_ids": ids} for r, ids in zip(good, [[], None] + [r["hash_ids"] for r in good[2:]], strict=True)]
    t = read_trace(write(tmp_path, lines(*none), "n.jsonl"))
    assert t.provenance["notes"] == ["2 of 9 prompts had no content ids: they count as never seen before"]


def test_delays_count_from_the_answer_to_the_turn_before(tmp_path):
    t = read_trace(write(tmp_path, lines(
        {"session_id": "b", "timestamp": 5000, "input_length": 600, "output_length": 10, "hash_ids": [8, 9]},
        {"session_id": "a", "timestamp": 0, "input_length": 1024, "output_length": 10, "hash_ids": [1, 2]},
        {"session_id": "a", "delay": 2000, "input_length": 1536, "output_length": 10, "hash_ids": [1, 2, 3]},
        {"session_id": "a", "delay": None, "timestamp": 9000, "input_length": 512, "output_length": 10, "hash_ids": [1]},
        {"session_id": "b", "delay": 500.5, "input_length": 700, "output_length": 10, "hash_ids": [8, 10]},
    ), "t.jsonl"))  # fmt: skip
    # In order of time, and a turn that waits stays behind the one it waits for.
    assert t.session.tolist() == [1, 1, 0, 0, 1] and t.after.tolist() == [-1, 0, -1, 2, -1]
    assert t.arrival_s.tolist() == [0, 2, 5, 0.5005, 9] and t.provenance["sorted_by_us"] is True
    first = {"session_id": "a", "delay": 2000, "input_length": 5, "output_length": 1}
    with pytest.raises(TraceError, match="line 1: 'delay' counts from the answer to an earlier turn"):
        read_trace(write(tmp_path, lines(first), "f.jsonl"))
    untimed = {"input_length": 5, "output_length": 1}
    with pytest.raises(TraceError, match="line 2: has neither 'timestamp' nor 'delay', which others have"):
        read_trace(write(tmp_path, lines({**untimed, "timestamp": 0}, untimed), "g.jsonl"))
    assert read_trace(write(tmp_path, lines(untimed, untimed), "h.jsonl")).provenance["has_arrivals"] is False


def test_columns_that_say_nothing_here_are_named_and_work_is_counted(tmp_path):
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens,region\n"
    text += "2024-10-15 00:00:00.1,3,1200,50,eu\n2024-10-15 00:00:00.2,0,600,20,us\n"
    p = read_trace(write(tmp_path, text)).provenance
    assert p["columns_not_used"] == ["NumImages", "region"]
    assert p["notes"] == ["'NumImages': 3 in 1 of 2 requests; not simulated, only the token counts are"]
    records = [{"timestamp": 0, "input_length": 9, "output_length": 1, "tool_calls": [1, 2], "cached_tokens": 5, "user": "x"},
               {"timestamp": 1000, "input_length": 9, "output_length": 1}]  # fmt: skip
    p = read_trace(write(tmp_path, lines(*records), "t.jsonl")).provenance
    assert p["columns_not_used"] == ["cached_tokens", "tool_calls", "user"]
    assert [note.split(";")[0] for note in p["notes"]] == ["'cached_tokens': 5 in 1 of 2 requests", "'tool_calls': 2 in 1 of 2 requests"]


def test_a_column_that_is_no_clock_is_remarked(tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f"{s},ChatGPT,4,1,5,API log\n" for s in rng.integers(0, 90, 200))
    p = read_trace(write(tmp_path, V1 + rows)).provenance
    assert p["sorted_by_us"] and p["notes"][-1].endswith("are they arrival times?")


def test_a_header_of_no_format_is_told_the_nearest(tmp_path):
    with pytest.raises(TraceError, match=r"Nearest is azure \(--format azure.*GeneratedTokens is missing"):
        read_trace(write(tmp_path, "TIMESTAMP,ContextTokens,OutTokens\n2023-11-16 18:15:46,1,2\n"))
    with pytest.raises(TraceError, match="begins a list; a trace is JSONL"):
        read_trace(write(tmp_path, '[{"timestamp": 1}]', "t.json"))
    with pytest.raises(TraceError, match="format 'azure' is CSV, which this file is not"):
        read_trace(write(tmp_path, bailian(), "t.jsonl"), "azure")
    many = ",".join(f"column_{i}" for i in range(5000))
    with pytest.raises(TraceError) as e:
        read_trace(write(tmp_path, many + "\n1\n"))
    assert len(str(e.value)) < 600


def test_vidur_replays_have_times(tmp_path):
    t = read_trace(write(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n3.5,10,2\n4.0,20,3\n"))
    assert t.arrival_s.tolist() == [0, 0.5] and t.provenance["has_arrivals"] is True


@pytest.mark.shared
def test_the_cases_from_the_field():
    right, same = read_trace(cases("qwen-bailian/right.jsonl")), read_trace(cases("qwen-bailian/traceA_like.jsonl"))
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(right, name), getattr(same, name)), name
    assert np.array_equal(right.prefix.ids, same.prefix.ids) and right.prefix.block_tokens == same.prefix.block_tokens == 16
    assert read_trace(cases("azure2024-tz/conv2024.csv")).arrival_s == pytest.approx([0, 0.007405, 0.11007, 1.49007], abs=1e-9)
    assert read_trace(cases("mooncake-u64/u64.jsonl")).prefix.ids.tolist() == [2**64 - 1, 2, 2**63, 3]
    assert read_trace(cases("mooncake-variants/session-delay.jsonl")).after.tolist() == [-1, 0]
    assert read_trace(cases("mooncake-variants/noids.jsonl")).prefix is None
    for name in ("short", "idsfirst-empty"):
        with pytest.raises(TraceError, match="--format mooncake --block-tokens"):
            read_trace(cases(f"mooncake-variants/{name}.jsonl"))
    rows = {"bom-crlf": 3, "datetime": 1, "pandas-index": 1, "quoted-header": 2, "semicolon": 1, "thousands": 1, "v3": 3}
    for name, n in rows.items():
        t = read_trace(cases(f"burstgpt-odd/{name}.csv"))
        assert len(t) == n and int(t.prompt_tokens[0]) == (1472 if name == "thousands" else 472), name
    with pytest.raises(TraceError, match="line 3: 'Response tokens' is ''"):
        read_trace(cases("burstgpt-odd/nan.csv"))
    assert read_trace(cases("inference-perf-ms/ms.csv")).arrival_s == pytest.approx([0, 0.001, 0.008, 0.01, 0.9990004], abs=1e-9)


def test_columns_of_a_format_in_another_kind_of_file_are_named(tmp_path):
    table = pa.table({"TIMESTAMP": ["2024-05-10 00:00:00"], "ContextTokens": [5], "GeneratedTokens": [5]})
    pq.write_table(table, tmp_path / "azure.parquet")
    with pytest.raises(TraceError, match="columns of format 'azure', which is read as CSV only"):
        read_trace(tmp_path / "azure.parquet")
    with pytest.raises(TraceError, match="columns of format 'mooncake', which is read as JSONL only"):
        read_trace(write(tmp_path, "timestamp,input_length,output_length\n0,5,5\n", "t.csv"))
