"""Values of YAML files kept between processes: those that the file has, whatever lies in the cache, with the same mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simserve import resources
from simserve.config import engine_profile
from simserve.errors import ConfigError, ProfileError
from simserve.files import yaml_text, yaml_values
from simserve.files.yaml_values import read_values
from simserve.hardware import load_profile

TEXT = "a: 1e-3\nb: [no, 010, 0x1f, .inf, '1', 2026-01-31]\nc: {d: ~, e: 12345678901234567890}\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "values"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(TEXT)
    return path


def test_the_values_are_those_of_the_file_the_second_time_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = yaml_text.read(file).data
    assert read_values(file).data == expected
    with monkeypatch.context() as patched:
        patched.setattr(yaml_text, "parse", lambda *_: pytest.fail("is not parsed again"))
        again = read_values(file).data
    assert again == expected and repr(again) == repr(expected), "types are kept"


def test_places_are_found_when_they_are_asked_for(file: Path) -> None:
    for _ in range(2):
        found = read_values(file)
        assert found.place(("c", "e")) == yaml_text.read(file).place(("c", "e")) == f"{file}:3:14"
        assert found.place(("c", "e"), of_key=True) == f"{file}:3:11"


def test_another_text_or_another_reader_is_another_key(file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_values(file)
    file.write_text(TEXT.replace("1e-3", "2e-3"))
    assert read_values(file).data["a"] == 2e-3
    assert len(list(own_cache.iterdir())) == 2
    monkeypatch.setattr(yaml_values, "_code", lambda: "another")
    read_values(file)
    monkeypatch.setattr("yaml.__version__", "0")
    read_values(file)
    assert len(list(own_cache.iterdir())) == 4


def test_damage_and_a_place_that_cannot_be_written_change_nothing(file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_values(file).data
    (kept,) = own_cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b" ")
    assert read_values(file).data == expected
    monkeypatch.setenv("SIMSERVE_CACHE", str(file))
    assert read_values(file).data == expected


def test_what_is_no_yaml_is_told_each_time(file: Path) -> None:
    file.write_text("a: [1\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"some.yaml:2:1: not valid YAML"):
            read_values(file)


def test_mistakes_in_a_kept_profile_have_their_line(tmp_path: Path) -> None:
    """A profile with a mistake is kept like any other: what is wrong is the values, not the text."""
    text = resources.find("hardware_profiles", "a10").read_text().replace("schema_version: 1", "schema_version: 1\nbogus: 2", 1)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    line = text[: text.index("bogus")].count("\n") + 1
    for _ in range(2):
        with pytest.raises(ProfileError, match=rf"mine.yaml:{line}:1: bogus: unknown key"):
            load_profile(path)


def test_what_ships_is_the_same_kept_or_not() -> None:
    for folder in (engine_profile.FOLDER, resources.find("hardware_profiles", "a10").parent):
        for path in sorted(folder.glob("*.yaml"))[:6]:
            parsed, values = yaml_text.read(path).data, [read_values(path).data for _ in range(2)]
            assert json.dumps(values[0]) == json.dumps(values[1]) == json.dumps(parsed)
