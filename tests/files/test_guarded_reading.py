"""The one way in for files of users: whatever the bytes are, the answer is a value or one short message."""

from __future__ import annotations

import gzip
import json
import math
import os
import threading

import pytest

from simserve.errors import ConfigError, TraceError
from simserve.files import yaml_text
from simserve.files.json_text import parse_json, read_json
from simserve.files.text import gunzip, read_bytes, read_text
from simserve.files.words import shown

HOSTILE = {
    "depth": "[" * 100_000,
    "closed depth": "[" * 5_000 + "]" * 5_000,
    "digits": '{"a": ' + "9" * 5_000 + "}",
    "digits below Python's limit": "1" * 400,
    "twice": '{"a": 1, "a": 2}',
    "cut": '{"a": [1, 2',
    "words": "nothing of the kind",
    "long key twice": json.dumps({"k" * 10_000: 1})[:-1] + ', "' + "k" * 10_000 + '": 2}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_one_short_message(name: str) -> None:
    with pytest.raises(TraceError) as caught:
        parse_json(HOSTILE[name], "f.json", TraceError)
    assert str(caught.value).startswith("f.json: ")
    assert len(str(caught.value)) < 200


def test_json_says_line_and_column() -> None:
    with pytest.raises(ConfigError, match=r"f: line 2, column 6: not valid JSON"):
        parse_json('{"a": 1,\n "b" 2}', "f", ConfigError)
    with pytest.raises(ConfigError, match="cut short"):
        parse_json('{"a": 1,\n "b": ', "f", ConfigError)


def test_json_reads_what_python_writes() -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": 10**299}, "n": math.inf}
    assert parse_json(json.dumps(value), "f", ConfigError) == value


HOSTILE_YAML = {
    "depth": "a: " + "[" * 900 + "]" * 900,
    "great depth": "a: " + "[" * 200_000,
    "digits": "a: " + "9" * 5_000,
    "hex digits": "a: 0x" + "f" * 6_000,
    "long key twice": f"{'k' * 900}: 1\n{'k' * 900}: 2",
    "long tag": f"a: !{'t' * 5_000} 1",
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_one_short_message(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        yaml_text.parse(HOSTILE_YAML[name], "f.yaml")
    assert str(caught.value).startswith("f.yaml:")
    assert len(str(caught.value)) < 250


def test_a_long_number_as_text_survives_a_round_trip() -> None:
    data = {"a": "9" * 400, "b": "9" * 5_000}
    assert yaml_text.parse(yaml_text.dump(data), "f").data == data


def test_gzip_expands_only_so_far(tmp_path) -> None:
    small, large = b"a" * 1_000, b"a" * 5_000_000
    path = tmp_path / "x.gz"
    assert gunzip(gzip.compress(small), path, TraceError) == small
    assert gunzip(gzip.compress(small) + gzip.compress(small) + b"\0" * 512, path, TraceError) == small * 2
    assert gunzip(gzip.compress(large), path, TraceError) == large
    with pytest.raises(TraceError, match="expands to more than 1 MiB"):
        gunzip(gzip.compress(large), path, TraceError, most_bytes=2**20)
    for damaged in (gzip.compress(large)[:-9], gzip.compress(small)[:10], gzip.compress(small) + b"junk", b"\x1f\x8b"):
        with pytest.raises(TraceError, match=r"damaged|cut short"):
            gunzip(damaged, path, TraceError)


def test_a_file_larger_than_its_kind_is_refused(tmp_path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 1_001)
    assert len(read_bytes(path, ConfigError, most_bytes=1_001)) == 1_001
    with pytest.raises(ConfigError, match="1001 bytes; a thing has at most 1000 bytes"):
        read_bytes(path, ConfigError, what="a thing", most_bytes=1_000)


def test_a_pipe_that_never_ends_is_not_read_to_its_end(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def pour() -> None:
        try:
            with pipe.open("wb") as stream:
                while True:
                    stream.write(b"x" * 65_536)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        read_bytes(pipe, ConfigError, most_bytes=2**20)
    thread.join(5)


def test_text_names_the_line_that_is_none(tmp_path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(path, ConfigError) == "{}"
    assert read_json(path, ConfigError) == {}
    path.write_bytes(b"{\n\xff}")
    with pytest.raises(ConfigError, match="line 2: not a text file in UTF-8"):
        read_json(path, ConfigError)
    path.write_bytes(b"  \n")
    with pytest.raises(ConfigError, match="empty"):
        read_json(path, ConfigError)
    with pytest.raises(ConfigError, match="no such file"):
        read_json(tmp_path / "absent", ConfigError)
    with pytest.raises(ConfigError):
        read_json(tmp_path / "a\0b", ConfigError)


def test_a_message_does_not_grow_with_the_value() -> None:
    tower: list[object] = ["x"]
    for _ in range(60):
        tower = [tower] * 9
    for value in (tower, "x" * 10**6, 10**400, -(10**5000), {"k": tower}, b"x" * 10**6, object(), 1e300):
        assert len(shown(value)) < 80
    assert [shown(v) for v in (None, True, 3, 2.5, "a", [], [1], {}, {"a": 1})] == [
        *("nothing", "true", "3", "2.5", "'a'", "an empty list", "a list of 1", "an empty mapping", "a mapping of 1 key"),
    ]
