"""The mutation tool: draws repeat, only what a run could show is changed, and a fault that a test sees is told from one it does not."""

from __future__ import annotations

import importlib
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.mutation import sites, table
from benchmarks.mutation.reach import _moved, _statement
from benchmarks.mutation.trial import order
from benchmarks.mutation.warm import exchange

ROOT = Path(__file__).resolve().parents[1]

SOURCE = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Thing

def first(values: list[int] | None, *, short: bool = True) -> int | None:
    if not values or values == "":
        return 1 + 2
    return values[0]
"""


@pytest.fixture
def known():
    pytest.importorskip("cosmic_ray", reason="cosmic-ray is not installed")
    return sites.operators()


def test_a_seed_draws_the_same_mutants_and_a_longer_draw_begins_with_them(known):
    few = list(islice(sites.draw(ROOT, "policies", 7), 4))
    assert list(islice(sites.draw(ROOT, "policies", 7), 6))[:4] == few
    assert list(islice(sites.draw(ROOT, "policies", 8), 4)) != few
    assert all(mutant.was != mutant.now and mutant.path.startswith("simserve/policies/") for mutant in few)


def test_what_no_run_could_show_is_not_a_mutant(known):
    changes = set()
    for choices in sites.places(SOURCE, known).values():
        for operator, occurrence in choices:
            text = sites.mutated(SOURCE, operator, occurrence, known)
            if text is not None:
                changes.add(sites.change(SOURCE, text))
    assert {line for line, _, _ in changes} == {6, 7, 8, 9}
    heads = {now for line, _, now in changes if line == 6}
    assert heads == {"def first(values: list[int] | None, *, short: bool = False) -> int | None:"}
    assert not any(" is " in now for _, _, now in changes)


def test_a_change_is_shown_as_the_lines_that_differ():
    assert sites.change("a\nb\nc\n", "a\n  x\nc\n") == (2, "b", "x")
    assert sites.change("a\n@d\nb\n", "a\nb\n") == (2, "@d", "")


def test_lines_are_followed_through_edits():
    assert _moved("a\nb\n", "a\nb\n") is None
    moved = _moved("a\nb\nc\nd\n", "new\na\nb\nC\nd\n")
    assert moved == {1: 2, 2: 3, 3: 4, 4: 5}


def test_the_head_of_a_block_is_a_statement_of_its_own():
    assert _statement(SOURCE, 7) == (7, 7, True)
    assert _statement(SOURCE, 8) == (8, 8, True)
    assert _statement(SOURCE, 6) == (6, 6, False)


def test_quick_tests_and_those_of_the_own_folder_come_first():
    seconds = {"tests/cost/a.py::x": 3.0, "tests/cost/b.py::y": 1.0, "tests/engine/c.py::z": 0.5, "tests/engine/d.py::slow": 90.0}
    narrow, *wide = order(set(seconds), seconds, ("tests/cost/",), budget_s=10.0)
    assert list(narrow) == ["tests/cost/b.py::y", "tests/cost/a.py::x", "tests/engine/c.py::z"] and wide == []
    narrow, rest = order(set(seconds), seconds, ("tests/cost/",), budget_s=100.0)
    assert list(rest) == ["tests/engine/d.py::slow"]


def test_equivalent_mutants_do_not_count(tmp_path):
    listed = tmp_path / "survivors.yaml"
    listed.write_text("- {file: 'simserve/cost/*.py', was: 'x > 0', kind: equivalent, why: x is never 0}\n")
    row = {"package": "cost", "path": "simserve/cost/a.py", "line": 1, "operator": "o", "by": "1 of 1", "was": "x > 0", "now": "x >= 0"}
    rows = [{**row, "state": "survived"}, {**row, "state": "killed", "was": "a"}, {**row, "state": "survived", "was": "b", "now": "c"}]
    text = table.markdown(rows, table.Listed(listed))
    assert "| cost | 3 | 1 | 1 | 1 | 0 | 50.0 % |" in text
    assert "equivalent (x is never 0)" in text


def test_an_entry_whose_line_is_gone_is_named(tmp_path):
    listed = tmp_path / "survivors.yaml"
    here = {"file": "tests/test_mutation_tool.py", "kind": "accepted", "why": "a test of a test"}
    listed.write_text(f"- {here | {'was': 'ROOT = Path(__file__).resolve().parents[1]'}}\n- {here | {'was': 'no such line'}}\n")
    assert [entry["was"] for entry in table.Listed(listed).gone(ROOT)] == ["no such line"]


LOADED = """
from functools import cache

FACTOR = 3

def times(x, by=2):
    return [x * by for _ in range(1)][0]

class Box:
    size = 4
    def doubled(self):
        return self.size * 2

def adder(n):
    def add(x):
        return x + n
    return add

plus_one = adder(1)
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """(module, a function that puts one text in the place of another in it and says whether that was possible)."""
    path = tmp_path / "loaded_for_a_test.py"
    path.write_text(LOADED)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(path.stem)
    yield module, lambda a, b: exchange(str(path), LOADED, LOADED.replace(a, b))
    del sys.modules[path.stem]


def test_functions_that_are_loaded_get_the_code_of_the_mutant(loaded):
    module, change = loaded
    assert change("x * by", "x + by") and module.times(5) == 7
    assert change("self.size * 2", "self.size * 3") and module.Box().doubled() == 12
    assert change("x + n", "x - n") and module.plus_one(5) == 4, "also what a function has returned"


def test_what_runs_at_import_cannot_be_exchanged(loaded):
    module, change = loaded
    for a, b in (("by=2", "by=3"), ("FACTOR = 3", "FACTOR = 4"), ("size = 4", "size = 5"), ("adder(1)", "adder(2)")):
        assert not change(a, b)
    assert module.times(5) == 10 and module.FACTOR == 3


def test_remembering_results_is_no_fact_and_being_a_property_is():
    plain = "class A:\n    def f(self):\n        return 1\n"
    assert sites.meaning(plain.replace("    def", "    @cache\n    def")) == sites.meaning(plain)
    assert sites.meaning(plain.replace("    def", "    @lru_cache(maxsize=3)\n    def")) == sites.meaning(plain)
    assert sites.meaning(plain.replace("    def", "    @property\n    def")) != sites.meaning(plain)
    assert sites.meaning("x = ") is None
