"""What people expect of a Python project: one version, typed, the exported names there, nothing dead in its metadata."""

from __future__ import annotations

import copy
import importlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import simserve
from simserve import contracts

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

EXPORTED = {
    *("Experiment", "Result", "SimserveError", "__version__"),
    *("capacity", "compare", "launch", "load", "paired", "place", "plan", "regress", "run", "sweep"),
}
"""Adding a name is a decision; taking one away breaks a user's notebook."""


def exports(package: ModuleType) -> dict[str, set[str]]:
    """The names that a package gives away, in each way that it says so."""
    own = {name for name, value in vars(package).items() if getattr(value, "__module__", None) == package.__name__}
    return {
        "listed": set(package.__all__),
        "loaded when asked for": {*package._HOMES, "__version__"},
        "defined here": {name for name in own if not name.startswith("_")} | EXPORTED,
        "known to dir()": {name for name in dir(package) if name.isidentifier() and not name.startswith("_")} - HARMLESS | {"__version__"},
    }


HARMLESS = {"Any", "TYPE_CHECKING", "annotations"} | {path.stem for path in (ROOT / "simserve").iterdir()}
"""What else stands in the package: what it is written with, and its modules once they are imported."""


def _package(change: Callable[[str], str]) -> ModuleType:
    """simserve's own `__init__.py`, changed."""
    module = ModuleType("changed")
    exec(compile(change((ROOT / "simserve" / "__init__.py").read_text(encoding="utf-8")), "changed", "exec"), vars(module))
    return module


def test_the_exported_names_are_these_and_each_is_there():
    assert {way: names ^ EXPORTED for way, names in exports(simserve).items() if names != EXPORTED} == {}
    assert all(getattr(simserve, name) is not None for name in EXPORTED)
    for name, home in simserve._HOMES.items():
        assert getattr(importlib.import_module(home), name) is getattr(simserve, name)
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert {name for name in EXPORTED if f"::: simserve.{name}\n" not in page} <= {"__version__", "Experiment"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"launch", "load",', '"launch", "load", "more",'),
        ('"launch", "load",', '"load",'),
        ('    "load": "simserve.api",\n', '    "load": "simserve.api",\n    "load_engine": "simserve.config.engine_profile",\n'),
        ('    "load": "simserve.api",\n', ""),
        ("def __dir__()", "def more():\n    pass\n\n\ndef __dir__()"),
        ("def __dir__()", "more = 1\n\n\ndef __dir__()"),
    ],
)
def test_a_name_that_is_added_or_lost_is_seen(old, new):
    assert all(names == EXPORTED for names in exports(_package(lambda text: text)).values())
    changed = _package(lambda text: text.replace(old, new, 1))
    assert any(names != EXPORTED for names in exports(changed).values())


def test_every_name_of_the_contracts_is_exported():
    own = {name for name, value in vars(contracts).items() if str(getattr(value, "__module__", "")).startswith("simserve.contracts")}
    capitals = {name for name, value in vars(contracts).items() if name.isupper() and not isinstance(value, ModuleType)}
    assert {name for name in own | capitals if not name.startswith("_")} <= set(contracts.__all__)
    assert all(hasattr(contracts, name) for name in contracts.__all__)


def test_every_page_of_the_python_reference_names_something():
    for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        if hasattr(importlib.import_module(module), attribute):
            continue
        importlib.import_module(name)


def test_the_version_has_one_source():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "simserve/version.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == simserve.__version__
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in log


def test_types_ship():
    assert (ROOT / "simserve" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def dead(project: dict[str, Any]) -> list[str]:
    """Entry points and scripts of a pyproject.toml that lead nowhere, or that are never looked at."""
    points = project.get("entry-points", {})
    # A built-in thing needs none: its name cannot be taken over, so an entry point of that name is never looked at.
    found = [f"{group}: {name}" for group, values in points.items() if group.split(".")[0] == "simserve" for name in values]
    for group, values in {**points, "scripts": project["scripts"]}.items():
        for name, target in values.items():
            module, _, attribute = target.partition(":")
            try:
                loaded = importlib.import_module(module)
            except ImportError:
                found.append(f"{group}: {name}")
                continue
            if attribute and not callable(getattr(loaded, attribute, None)):
                found.append(f"{group}: {name}")
    return found


def test_no_entry_point_of_ours_is_dead():
    project = PROJECT["project"]
    assert dead(project) == [] and set(project["scripts"]) == {"simserve"} and set(project["entry-points"]) == {"pytest11"}


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("pytest11", "simserve.study.no_such_plugin"),
        ("scripts", "simserve.cli:no_such_function"),
        ("scripts", "simserve.cli:__doc__"),
        ("simserve.schedulers", "simserve.policies.scheduling.sarathi:Sarathi"),
    ],
)
def test_a_dead_entry_point_is_seen(group, target):
    project = copy.deepcopy(PROJECT["project"])
    (project["scripts"] if group == "scripts" else project["entry-points"].setdefault(group, {}))["dead"] = target
    assert dead(project) == [f"{group}: dead"]


def test_every_extra_that_is_named_exists():
    extras = set(PROJECT["project"]["optional-dependencies"])
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "simserve").rglob("*.py"), *(ROOT / ".github").rglob("*.yml")]
    texts += [ROOT / ".ci" / "run", *(ROOT / "notebooks").glob("*.ipynb")]
    for path in texts:
        for match in re.finditer(r"(?:simserve|'\.|\"\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            assert set(match[1].split(",")) <= extras, f"{path}: {match[0]}"


def test_workflows_are_yaml_and_run_what_is_here():
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / "docs" / "ci" / "simserve-regress.yml", ROOT / ".pre-commit-config.yaml"]:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for job in document.get("jobs", {}).values():
            for step in job["steps"]:
                for script in re.findall(r"^\.ci/\S+", step.get("run", ""), re.MULTILINE):
                    assert (ROOT / script).is_file(), f"{path}: {script}"


def test_the_site_lists_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"\b([a-z-]+\.md)\b", text))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}
