"""The YAML dialect: YAML 1.2 scalars, places of keys and values, errors with lines."""

from __future__ import annotations

import math

import pytest

from simserve.errors import ConfigError
from simserve.files import yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2.5E+2", -250.0),
        (".5", 0.5),
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("10_000", 10_000),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("'1'", "1"),
        ('"1e-3"', "1e-3"),
        ("1.2.3", "1.2.3"),
        ("[1, x, {a: 2}]", [1, "x", {"a": 2}]),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = yaml_text.parse(f"key: {text}\n", "f").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert yaml_text.parse("no: 1\n1: 2\nnull: 3\n", "f").data == {"no": 1, "1": 2, "null": 3}


def test_places_are_line_and_column_counted_from_one() -> None:
    document = yaml_text.parse("a:\n  - x: 1\n    y: {z: 2}\n", "f.yaml")
    assert document.place(("a", 0, "y", "z")) == "f.yaml:3:12"
    assert document.place(("a", 0, "y", "z"), of_key=True) == "f.yaml:3:9"
    assert document.place(("a", 0, "absent")) == "f.yaml:2:5"  # the nearest parent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"f.yaml:3:1: key 'a' is given twice \(first at f.yaml:1:1\)"),
        ("a: {b: 1, b: 2}\n", r"f.yaml:1:11: key 'b' is given twice"),
        ("a: [1, 2\n", r"f.yaml:2:1: not valid YAML"),
        ("a:\n\tb: 1\n", r"f.yaml:2:1: not valid YAML.*tabs"),
        ("a: 'x\n", r"f.yaml:.*not valid YAML"),
        ("- 1\n- 2\n", r"f.yaml:1:1: found a list of 2"),
        ("just words\n", r"f.yaml:1:1: found text 'just words'"),
        ("", "f.yaml: the file is empty"),
        ("# a comment\n", "f.yaml: the file is empty"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a: !python/object:os.system x\n", "f.yaml:1:4: tag"),
        ("a: &x [*x]\n", "without end"),
        ("[1, 2]: 3\n", "f.yaml:1:1: a key must be a single word"),
    ],
)
def test_bad_yaml_is_one_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        yaml_text.parse(text, "f.yaml")


def test_exploding_aliases_end_with_an_error() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="without end"):
        yaml_text.parse("\n".join(lines), "bomb")


def test_files_that_are_not_text(tmp_path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\x80\x81\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        yaml_text.read(binary)
    binary.write_bytes(b"a: \x00")
    with pytest.raises(ConfigError, match="binary"):
        yaml_text.read(binary)
    with pytest.raises(ConfigError, match="is a directory"):
        yaml_text.read(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        yaml_text.read(tmp_path / "absent.yaml")


def test_what_is_dumped_is_read_back_exactly() -> None:
    data = {
        "numbers": [1, -2, 0.1, 1e-5, 1e22, 1.0, math.inf, -math.inf, 2**62],
        "words": ["yes", "no", "null", "1e-3", "0o17", "10_000", "", "a: b", "# x", "2024-01-01", "12:30", "true", "é", "~"],
        "others": [None, True, False, {"nested": [{"deep": 1}]}],
    }
    back = yaml_text.parse(yaml_text.dump(data), "f").data
    assert back == data
    assert [type(v) for v in back["numbers"]] == [type(v) for v in data["numbers"]]
