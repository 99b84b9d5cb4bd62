"""Compiled templates kept between processes: the same pages, whatever lies in the cache."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from simserve.report import page
from simserve.report.kept_templates import KEPT, kept_templates


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "templates"


def environment(text: str, code: bytes = b"code") -> jinja2.Environment:
    """One that knows the template `a`."""
    return jinja2.Environment(loader=jinja2.DictLoader({"a": text}), bytecode_cache=kept_templates(code))


def test_a_template_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment("{{ x }} of {{ y }}").get_template("a").render(x=1, y=2) == "1 of 2"
    monkeypatch.setattr(jinja2.Environment, "compile", lambda *_: pytest.fail("is compiled again"))
    assert environment("{{ x }} of {{ y }}").get_template("a").render(x=3, y=4) == "3 of 4"


def test_another_text_and_another_way_to_compile_are_others(own_cache: Path) -> None:
    assert environment("{{ x }}").get_template("a").render(x=1) == "1"
    assert environment("{{ x + 1 }}").get_template("a").render(x=1) == "2"
    assert len(list(own_cache.iterdir())) == 2
    environment("{{ x }}", b"other code").get_template("a")
    assert len(list(own_cache.iterdir())) == 3


def test_damage_and_a_place_that_cannot_be_written_change_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment("{{ x }}").get_template("a")
    (kept,) = own_cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-3])
    assert environment("{{ x }}").get_template("a").render(x=1) == "1"
    KEPT.put(kept.name, b"j2 no code object")
    assert environment("{{ x }}").get_template("a").render(x=1) == "1"
    monkeypatch.setenv("SIMSERVE_CACHE", "/dev/null/nothing")
    assert environment("{{ x }}").get_template("a").render(x=1) == "1"


def test_pages_use_them(own_cache: Path) -> None:
    page._environment().get_template("run.html.j2")
    assert list(own_cache.iterdir())
