"""Result files with something wrong in them: every kind of damage, at any place, the same for the same seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "", "abc", "NaN", "1e999", "\u0000", -1, 0, -0.0, 1e-300, 5e-324, 1e30, 10**18, 10**250, float("nan"), float("inf"),
    float("-inf"), [], {}, [1, 2], [[]], {"a": {}}, [None], "x" * 5000, 0.5, 2**63, "2024-01-01", {"type_": []}, {"mean": "x"},
)  # fmt: skip
"""What a value is replaced by."""


def documents(document: dict[str, Any], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files made from a result, each with a name for its damage."""
    rng = random.Random(seed)
    for i in range(count):
        damage = _DAMAGES[i % len(_DAMAGES)]
        yield f"{damage.__name__[1:]} {i}", damage(copy.deepcopy(document), rng)


def _value_swapped(document: Any, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        parent, key = rng.choice(list(_places(document)))
        parent[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return _text(document)


def _key_missing(document: Any, rng: random.Random) -> bytes:
    mappings = [(p, k) for p, k in _places(document) if isinstance(p, dict)]
    parent, key = rng.choice(mappings)
    del parent[key]
    return _text(document)


def _key_renamed(document: Any, rng: random.Random) -> bytes:
    parent, key = rng.choice([(p, k) for p, k in _places(document) if isinstance(p, dict)])
    parent[str(key) + rng.choice(["s", " ", "\u00e9", "_ms"])] = parent.pop(key)
    return _text(document)


def _number_scaled(document: Any, rng: random.Random) -> bytes:
    numbers = [(p, k) for p, k in _places(document) if isinstance(p[k], int | float) and not isinstance(p[k], bool)]
    parent, key = rng.choice(numbers)
    parent[key] = parent[key] * rng.choice([-1, 1e-12, 1e-6, 1e6, 1e12, 1e100]) if rng.random() < 0.7 else str(parent[key])
    return _text(document)


def _nested(document: Any, rng: random.Random) -> bytes:
    depth = rng.choice([3, 200, 100_000])
    parent, key = rng.choice(list(_places(document)))
    parent[key] = "@@"
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    return _text(document).replace(b'"@@"', (opening * depth + "1" + closing * depth).encode())


def _long_number(document: Any, rng: random.Random) -> bytes:
    parent, key = rng.choice(list(_places(document)))
    parent[key] = "@@"
    return _text(document).replace(b'"@@"', rng.choice([b"9" * 5000, b"1e99999", b"-" + b"9" * 400, b"0." + b"1" * 4000]))


def _cut(document: Any, rng: random.Random) -> bytes:
    text = _text(document)
    return text[: rng.randrange(1, len(text))]


def _bytes_damaged(document: Any, rng: random.Random) -> bytes:
    text = bytearray(_text(document))
    for _ in range(rng.choice([1, 3, 30])):
        text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text)


def _repeated(document: Any, rng: random.Random) -> bytes:
    text = _text(document)
    return rng.choice(
        [text + text, text + b"\n" + text, b"[" + text + b"," + text + b"]", text[:-1] + b"," + text[1:], b"\xef\xbb\xbf" + text]
    )


def _wrong_lengths(document: Any, rng: random.Random) -> bytes:
    if "completed" in document:
        document["input_lens"] = [rng.choice([1, 10**9, "x", None, -5, 7.5]) for _ in range(rng.choice([0, 3, 60]))]
        document["output_lens"] = rng.choice([[], "abc", {"a": 1}, [4] * 60, [0] * 60])
    elif "benchmarks" in document:
        document["benchmarks"] = rng.choice([[], [None], [[]], [1, {}], document["benchmarks"] * 3 + [{}]])
    return _value_swapped(document, rng)


_DAMAGES: tuple[Callable[[Any, random.Random], bytes], ...] = (
    _value_swapped, _key_missing, _value_swapped, _key_renamed, _number_scaled, _nested, _long_number, _cut, _bytes_damaged, _repeated,
    _wrong_lengths,
)  # fmt: skip


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def _text(document: Any) -> bytes:
    return json.dumps(document).encode()
