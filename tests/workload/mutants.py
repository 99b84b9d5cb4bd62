"""Trace files with one thing wrong or odd, made from good ones: the same for the same number. A helper of the tests.

`mutant(n)` is the name and the bytes of mutant n. Kinds of damage take turns, so any run of consecutive numbers has all of them.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from tests.workload.traces import AZURE, V1, V3

Random = np.random.Generator

_MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
    {"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [0, 9]},
    {"timestamp": 4100, "input_length": 2000, "output_length": 9, "hash_ids": [0, 1, 4, 5]},
]
_BAILIAN = [
    {"chat_id": 0, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 40, "output_length": 5, "type": "text", "turn": 1,
     "hash_ids": [0, 1, 2]},
    {"chat_id": 1, "parent_chat_id": 0, "timestamp": 9.25, "input_length": 64, "output_length": 7, "type": "image", "turn": 2,
     "hash_ids": [0, 1, 3, 4]},
]  # fmt: skip
_RAGPULSE = [
    {"timestamp": "82", "input_length": 300, "output_length": 19, "session_id": "a",
     "hash_ids": {"sys_prompt": [1], "passages_ids": [2, 3], "history": [], "web_search": [], "user_input": [4]}},
]  # fmt: skip
_OURS = [
    {"arrival_s": 0.0, "prompt_tokens": 40, "output_tokens": 5, "session": 0, "slo_class": "chat", "elapsed_s": 1.5,
     "prefix_ids": [1, 2, 3], "prefix_block_tokens": 16},
    {"arrival_s": 2.5, "prompt_tokens": 64, "output_tokens": 7, "session": 0, "slo_class": "chat", "elapsed_s": None,
     "prefix_ids": [1, 2, 3, 9], "prefix_block_tokens": 16},
]  # fmt: skip


def _lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


TEXTS: dict[str, str] = {
    "burstgpt.csv": V1 + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,0,0,0,API log\n118,ChatGPT,7,9,16,API log\n",
    "burstgpt-v3.csv": V3 + "10.0,s-b,3,GPT-4,5,6,11,Conversation log\n11.5,,,ChatGPT,1,1,2,API log\n40,s-b,2,GPT-4,50,6,56,API log\n",
    "azure.csv": AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:51.2,8,1\n",
    "azure-zoned.csv": AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01.12+00:00,2399,6\n",
    "vidur.csv": "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.9\n10,2,12,5\n",
    "ours.csv": "arrival_s,prompt_tokens,output_tokens,after,prefix_ids,prefix_block_tokens\n0,40,5,-1,1 2 3,16\n0.5,50,6,0,1 2 3 4,16\n",
    "mooncake.jsonl": _lines(_MOONCAKE),
    "bailian.jsonl": _lines(_BAILIAN),
    "ragpulse.jsonl": _lines(_RAGPULSE),
    "ours.jsonl": _lines(_OURS),
}

ODD_FIELDS = (
    "", " ", "nan", "inf", "-inf", "-1", "-0", "1e400", "1e308", "5e-324", "9" * 400, "9" * 5000, "18446744073709551616", "3.5", "0x10",
    "1_000", "1,472", '"1,472"', "1.472,5", "١٢", "NULL", "None", "true", "[]", "{}", "a" * 200_000, '"', "'", "\\", "a\tb", "é", "\ufeff",
    "2024-01-31", "31.01.2024 10:00", "2024-13-40 99:00:00", "2024-05-10T00:00:00Z", "2024-05-10 00:00:00-07:30", "1700000000000", "😀",
    "=1+1", "#", "-" * 50, "1 2 3", "1;2", "\x1b[31m", "+", ".", "e", "1e", "0" * 100 + "1", "99999999999", "1e10", "NaN", "Infinity",
)  # fmt: skip
ODD_VALUES: tuple[str, ...] = (
    "null", "true", "false", '""', '"x"', "-1", "1e400", "-1e400", "1e308", "5e-324", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5000,
    "18446744073709551615", "18446744073709551616", "-9223372036854775809", "3.5", "[]", "[[]]", "[1, null]", '["a", 1]', '["a", "b"]',
    "[1.5]", "[true]", "[7, 7, 7]", "[18446744073709551615, -1]", "{}", '{"a": 1}', '"2024-01-01 00:00:00"', "1700000000000", '"1e5"',
    '"' + "a" * 200_000 + '"', "[" * 500 + "]" * 500, "[" * 100_000, '{"a":' * 5_000, "\ud800".encode("utf-16", "surrogatepass").hex(),
    '"\\ud800"', "1000000001", "0", "[-1, -1]", "[" + "1," * 5000 + "1]",
)  # fmt: skip


def mutant(number: int) -> tuple[str, bytes]:
    """The file name and the content of a mutant."""
    rng = np.random.default_rng(number)
    kind = _KINDS[number % len(_KINDS)]
    return kind(rng)


def _pick(rng: Random, choices: Any) -> Any:
    return choices[int(rng.integers(0, len(choices)))]


def _csv_field(rng: Random) -> tuple[str, bytes]:
    name = _pick(rng, [n for n in TEXTS if n.endswith(".csv")])
    rows = [line.split(",") for line in TEXTS[name].splitlines()]
    row = rows[int(rng.integers(0, len(rows)))]
    row[int(rng.integers(0, len(row)))] = _pick(rng, ODD_FIELDS)
    return name, "\n".join(",".join(r) for r in rows).encode("utf-8", "surrogatepass") + b"\n"


def _csv_layout(rng: Random) -> tuple[str, bytes]:
    name = _pick(rng, [n for n in TEXTS if n.endswith(".csv")])
    text = TEXTS[name]
    lines = text.splitlines()
    header = lines[0].split(",")
    twice = int(rng.integers(0, len(header)))
    changes: list[Callable[[], str]] = [
        lambda: text.replace("\n", "\r"),
        lambda: text.replace("\n", "\r\n"),
        lambda: "\ufeff" + text,
        lambda: "\n\n" + text,
        lambda: text.replace(",", _pick(rng, (";", "\t", "|", " "))),
        lambda: "\n".join(f"{'' if i == 0 else i - 1},{line}" for i, line in enumerate(lines)) + "\n",
        lambda: "\n".join(line + "," + line.split(",")[twice] for line in lines) + "\n",
        lambda: "\n".join(lines[1:]) + "\n",
        lambda: lines[0] + "\n" + text,
        lambda: text.replace(header[twice], header[twice].upper()),
        lambda: text.replace(header[twice], "NumImages"),
        lambda: "\n".join(line + f",{i}" if i else line + ",audio_seconds" for i, line in enumerate(lines)) + "\n",
        lambda: "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in lines),
        lambda: text + "#comment\n",
        lambda: text.rstrip("\n") + ',"unclosed\n',
        lambda: text + text.splitlines()[1] + ",extra\n",
        lambda: "\n".join([lines[0], *reversed(lines[1:])]) + "\n",
        lambda: lines[0] + "\n",
    ]
    return name, _pick(rng, changes)().encode()


def _json_value(rng: Random) -> tuple[str, bytes]:
    name = _pick(rng, [n for n in TEXTS if n.endswith(".jsonl")])
    lines = TEXTS[name].splitlines()
    at = int(rng.integers(0, len(lines)))
    record = json.loads(lines[at])
    key = _pick(rng, [*record, "NumImages", "tool_calls", "delay"])
    record[key] = "@@"
    lines[at] = json.dumps(record).replace('"@@"', _pick(rng, ODD_VALUES))
    return name, "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def _json_layout(rng: Random) -> tuple[str, bytes]:
    name = _pick(rng, [n for n in TEXTS if n.endswith(".jsonl")])
    text = TEXTS[name]
    first = json.loads(text.splitlines()[0])
    gone = _pick(rng, list(first))
    changes: list[Callable[[], str]] = [
        lambda: text.replace("\n", "\r"),
        lambda: "\ufeff\n" + text,
        lambda: "[" + text.strip().replace("\n", ",") + "]",
        lambda: text + "[1, 2]\n",
        lambda: text + "[" * 100_000,
        lambda: text + "null\n",
        lambda: text.replace(f'"{gone}"', f'"{gone}x"'),
        lambda: text.replace(f'"{gone}"', f'"{gone}"', 1).replace("{", "{" + f'"{gone}": 1, ', 1),
        lambda: "".join(json.dumps({k: v for k, v in json.loads(line).items() if k != gone}) + "\n" for line in text.splitlines()),
        lambda: "\n".join(reversed(text.splitlines())) + "\n",
        lambda: text.replace(" ", "\u2028"),
        lambda: text.replace('"', "'"),
        lambda: "{}\n" + text,
    ]
    return name, _pick(rng, changes)().encode()


def _bytes(rng: Random) -> tuple[str, bytes]:
    name = _pick(rng, list(TEXTS))
    data = bytearray(TEXTS[name].encode())
    a, b = sorted(int(i) for i in rng.integers(0, len(data), 2))
    what = int(rng.integers(0, 6))
    if what == 0:
        data[a] = int(rng.integers(0, 256))
    elif what == 1:
        del data[a:b]
    elif what == 2:
        data[a:a] = data[a:b]
    elif what == 3:
        data = data[:a]
    elif what == 4:
        data[a:a] = bytes(rng.integers(0, 256, 8).tolist())
    else:
        data = data[a:]
    return name, bytes(data)


def _gzip(rng: Random) -> tuple[str, bytes]:
    name, data = _bytes(rng) if rng.random() < 0.3 else (lambda n: (n, TEXTS[n].encode()))(_pick(rng, list(TEXTS)))
    packed = bytearray(gzip.compress(data, mtime=0))
    what = int(rng.integers(0, 5))
    if what == 0:
        packed[int(rng.integers(2, len(packed)))] ^= 1 << int(rng.integers(0, 8))
    elif what == 1:
        packed = packed[: int(rng.integers(2, len(packed)))]
    elif what == 2:
        packed = packed * 2
    elif what == 3:
        packed = bytearray(gzip.compress(bytes(packed), mtime=0))
    else:
        packed += b"\0" * 100 + b"x"
    return name + ".gz", bytes(packed)


def _parquet_type(rng: Random) -> tuple[str, bytes]:
    import pyarrow as pa

    columns: dict[str, Any] = {
        "arrival_s": pa.array([0.0, 1.0]),
        "prompt_tokens": pa.array([40, 64]),
        "output_tokens": pa.array([5, 7]),
        "session": pa.array([0, 0]),
        "after": pa.array([-1, 0]),
        "slo_class": pa.array(["a", "b"]),
        "elapsed_s": pa.array([1.0, None]),
        "prefix_ids": pa.array([[1, 2], [1, 3]]),
        "prefix_block_tokens": pa.array([16, 16]),
    }
    odd = [
        pa.array([0, 1], pa.timestamp("us")),
        pa.array([0, 1], pa.timestamp("ns", "UTC")),
        pa.array([0, 1], pa.date32()),
        pa.array([0, 1], pa.time64("us")),
        pa.array([0, 1], pa.duration("s")),
        pa.array([True, False]),
        pa.array([1, None]),
        pa.array([None, None]),
        pa.array([None, None], pa.int64()),
        pa.array(["1", "2"]),
        pa.array([b"1", b"2"]),
        pa.array(["5", "5"]).dictionary_encode(),
        pa.array([5, 5]).dictionary_encode(),
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.array([Decimal("1"), Decimal("2.50")]),
        pa.array([Decimal("9" * 60), Decimal("1")], pa.decimal256(70, 0)),
        pa.array([float("nan"), 1.0]),
        pa.array([float("inf"), 1.0]),
        pa.array([1.5, 1e300]),
        pa.array([-1, -(2**63)]),
        pa.array([[1], None]),
        pa.array([["a"], ["b"]]),
        pa.array([[1.5], [2.0]]),
        pa.array([[[1]], [[2]]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([[2**64 - 1], [1]], pa.list_(pa.uint64())),
        pa.array([[True], [False]]),
        pa.array([[1, 1], [1, None]]),
        pa.array([np.float16(1), np.float16(2)]),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)),
    ]
    name = _pick(rng, [*columns, "oops", "__index_level_0__"])
    columns[name] = _pick(rng, odd)
    names, arrays = list(columns), list(columns.values())
    if rng.random() < 0.1:
        names[-1] = names[0]
    if rng.random() < 0.1:
        at = names.index(_pick(rng, names))
        del names[at], arrays[at]
    return "t.parquet", _parquet(names, arrays)


def _parquet(names: list[str], arrays: list[Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, names=names), sink)
    return sink.getvalue()


def _parquet_bytes(rng: Random) -> tuple[str, bytes]:
    data = bytearray(_parquet(["arrival_s", "prompt_tokens", "output_tokens"], [[0.0, 1.0], [4, 5], [6, 7]]))
    what = int(rng.integers(0, 3))
    at = int(rng.integers(4, len(data)))
    if what == 0:
        data[at] ^= 1 << int(rng.integers(0, 8))
    elif what == 1:
        data = data[:at]
    else:
        del data[at : at + int(rng.integers(1, 40))]
    return "t.parquet", bytes(data)


def _parquet_records(rng: Random) -> tuple[str, bytes]:
    import pyarrow as pa

    records = [dict(record) for record in _pick(rng, (_MOONCAKE, _BAILIAN))]
    key = _pick(rng, list(records[0]))
    for record in records:
        record[key] = _pick(rng, (None, record[key], record[key]))
    table = pa.Table.from_pylist(records)
    return "records.parquet", _parquet(table.column_names, table.columns)


_KINDS: tuple[Callable[[Random], tuple[str, bytes]], ...] = (
    _csv_field, _json_value, _csv_layout, _json_layout, _bytes, _parquet_type, _gzip, _parquet_records, _csv_field, _json_value,
    _parquet_bytes,
)  # fmt: skip
