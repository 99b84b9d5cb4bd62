"""What people expect of a Python project: one version, typed, the exported names there, nothing dead in its metadata."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import yaml

import simserve

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

EXPORTED = {
    *("Experiment", "Result", "SimserveError", "__version__"),
    *("capacity", "compare", "load", "paired", "place", "regress", "run", "sweep"),
}
"""Adding a name is a decision; taking one away breaks somebody's notebook."""


def test_the_exported_names_are_these_and_each_is_there():
    assert set(simserve.__all__) == EXPORTED
    assert all(getattr(simserve, name) is not None for name in EXPORTED)
    assert set(dir(simserve)) >= EXPORTED
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert {name for name in EXPORTED if f"::: simserve.{name}\n" not in page} <= {"__version__", "Experiment"}


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


def test_no_entry_point_of_ours_is_dead():
    # A built-in policy needs none: its name cannot be taken over, so an entry point of that name is never looked at.
    points = PROJECT["project"].get("entry-points", {})
    assert not [group for group in points if group.startswith("simserve.")]
    for values in (*points.values(), PROJECT["project"]["scripts"]):
        for target in values.values():
            module, _, attribute = target.partition(":")
            found = importlib.import_module(module)
            assert not attribute or callable(getattr(found, attribute)), target


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
