"""Sections are read without their JSON Schema where pydantic has changed nothing; the schema would have found no mistake either."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simserve import resources
from simserve.config.schema import ExperimentSpec
from simserve.files import messages, yaml_text

ODD = (
    "512",
    "true",
    "no",
    "1e-3",
    "auto",
    True,
    False,
    1,
    0,
    2.0,
    1.5,
    float("inf"),
    float("nan"),
    1e305,
    10**40,
    None,
    [],
    {},
    ["8"],
    {"a": "8"},
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))
    yield path


def documents() -> list[yaml_text.Document]:
    return [yaml_text.read(Path(resources.find("experiments", name))) for name in resources.available("experiments")]


def test_the_short_way_finds_the_mistakes_of_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(5)
    cases = []
    for document in documents():
        places = [path for path in leaves(document.data) if path]
        for path in [(), *draw.sample(places, min(len(places), 12))]:
            data = copy.deepcopy(document.data)
            node: Any = data
            for part in path[:-1]:
                node = node[part]
            if path:
                node[path[-1]] = draw.choice(ODD)
            cases.append((data, yaml_text.Document(document.source, data, document.places, document.key_places)))
    short = [messages.check(ExperimentSpec, *case) for case in cases]
    monkeypatch.setattr(messages, "_as_written", lambda value, section: False)
    assert short == [messages.check(ExperimentSpec, *case) for case in cases]
    assert sum(not mistakes for _, mistakes in short) > 20 < sum(bool(mistakes) for _, mistakes in short)


def test_a_good_experiment_is_read_without_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_schema", lambda model: pytest.fail(f"the schema of {model.__name__} was made"))
    for document in documents():
        assert messages.check(ExperimentSpec, document.data, document)[1] == []
