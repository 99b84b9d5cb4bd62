"""What the pages name exists: commands and their options, keys of the experiment, classes and their members, policies, extras."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from simserve import catalogue
from tests.docs.blocks import ROOT, blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


def code_of(page: Path) -> list[str]:
    """Everything set as code: the lines of fences, the indented blocks, and what stands in backticks."""
    text = page.read_text(encoding="utf-8")
    lines = [line.split(" #")[0] for block in blocks(page) for line in block.text.splitlines()]
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines += re.findall(r"^ {4}(simserve .*)$", outside, re.M)
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


@functools.cache
def commands() -> dict[str, Any]:
    from simserve.cli.root import command as whole

    found: dict[str, Any] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        found[" ".join(path)] = command
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                walk(command.get_command(None, name), (*path, name))

    walk(whole(), ())
    return found


def named_commands(page: Path) -> list[tuple[str, str]]:
    """(command, the rest of the line) for each call of simserve that the page shows."""
    calls = []
    for line in code_of(page):
        for part in re.split(r"\||;|&&", line):
            if match := re.match(r"(?:python -m )?simserve ((?:[a-z][a-z-]* ?)+)(.*)", part.strip()):
                calls.append((match[1].strip(), match[2]))
    return calls


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words, rest in named_commands(page):
        path = words.split()
        while path and " ".join(path) not in commands():
            path.pop()
        assert path, f"{page.name}: there is no command 'simserve {words}'"
        group = commands()[" ".join(path)]
        following = words.split()[len(path) :]
        assert not hasattr(group, "list_commands") or not following, f"{page.name}: 'simserve {words}'"
        known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", f"{' '.join(following)} {rest}"):
            assert option in known, f"{page.name}: 'simserve {' '.join(path)}' has no {option}"


NOT_KEYS = {
    "architecture.md": {"cost", "engine", "plan", "workload"},
    "glossary.md": {"plan"},
    "policies.md": {"cluster", "plan"},
    "speculation.md": {"plan"},
}
"""First words that mean a folder or a Python name on that page."""


@functools.cache
def keys() -> tuple[set[str], set[str]]:
    """(first keys of an experiment, every key anywhere in its schema, with those of the policies)."""
    from simserve.config.json_schema import experiment_schema

    schema = experiment_schema()
    everything: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            everything.update(node.get("properties", {}))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(schema)
    return set(schema["properties"]), everything


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_dotted_keys_of_the_experiment_exist(page: Path) -> None:
    first, everything = keys()
    assert {"cluster", "workload", "engine"} <= first and {"warmup_s", "token_budget"} <= everything
    for span in code_of(page):
        for key in re.findall(r"(?<![\w./-])([a-z_]+(?:\.[a-z_0-9]+)+)(?=[=:\s,)]|$)", span):
            parts = key.split(".")
            if parts[0] not in first or parts[-1] in ("yaml", "json", "py", "md", "parquet", "csv", "html", "png"):
                continue
            if (page.name in NOT_KEYS and parts[0] in NOT_KEYS[page.name]) or key in {figure.quantity for figure in catalogue.FIGURES}:
                continue
            unknown = [part for part in parts[1:] if not part.isdigit() and part not in everything]
            assert not unknown or parts[0] in ("probes", "variants"), f"{page.name}: {key}: no key is called {unknown[0]}"


@functools.cache
def source() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "simserve").rglob("*.py")))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_classes_and_their_members_exist(page: Path) -> None:
    for span in re.findall(r"`([A-Z][A-Za-z]+\.[a-z_]+)(?:\([^`]*\))?`", page.read_text(encoding="utf-8")):
        name, member = span.split(".")
        body = re.search(rf"^class {name}\b.*?(?=^\S(?<!\)))", source() + "\nx", re.M | re.S)
        if body is None:
            continue  # of another project
        bases = re.findall(r"class \w+\((.*?)\)", body[0])
        assert re.search(rf"\b{member}\b", body[0]) or any(base in source() for base in bases), f"{page.name}: {span}"


def test_extras_that_are_installed_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))]:
        for names in re.findall(r"(?:simserve|-e '?\.)\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= set(extras), f"{page.name}: [{names}]"


METRICS = {2: ("ttft", "prompt_phase"), 3: ("tpot", "decode_step"), 4: ("e2e",)}
"""Columns of the README's table, and how the metrics of the page begin that they show."""


def table_after(text: str, mark: str) -> list[list[str]]:
    """Cells of the table that follows a line, without its head."""
    lines = text.split(mark)[1].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("") if "" in lines else None]]
    return rows[2:]


def test_the_errors_that_the_readme_states_are_those_of_models_left_out() -> None:
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/serving-validation.md"))
    left_out = {(row[0], row[1]): row[3].split(", ") for row in table_after(page, "## Whole groups left out of every fit\n")}
    stated = 0
    for row in table_after(readme, "measured_runs report -->\n"):
        for column, metrics in METRICS.items():
            found = next((errors for (name, metric), errors in left_out.items() if name == row[0] and metric.startswith(metrics)), None)
            assert (found is None) == (row[column] == "–"), (row[0], metrics)
            if found is not None:
                for cell, error in zip(row[column].removesuffix(" %").split(" / "), found, strict=False):
                    assert abs(int(cell) - float(error)) <= 0.55, (row[0], metrics)  # both are rounded
                    stated += 1
    assert stated > 25


def test_the_readme_counts_the_models() -> None:
    from simserve.model.library import model_names

    (least,) = re.findall(r"More than (\d+) architectures are bundled", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert int(least) < len(model_names()) < int(least) + 40


def test_the_profiles_that_learn_are_counted() -> None:
    from benchmarks.measured_runs.lessons import LESSONS

    page = (ROOT / "docs" / "serving-validation.md").read_text(encoding="utf-8")
    words = {14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty"}
    assert f"of {words[len(LESSONS)]} profiles" in page


def test_the_factor_for_hosts_is_the_only_one() -> None:
    """docs/serving-validation.md and docs/cost-models.md: one profile, one kind of device, 0.67."""
    from simserve.config.engine_profile import load_engine, names

    found = {
        (name, prefix, rule.host_speed)
        for name in names()
        for rule in load_engine(name).on_hardware
        if rule.host_speed != 1.0
        for prefix in rule.prefixes
    }
    assert found == {("vllm-2023", "a100-", 0.67)}
    for page in ("serving-validation.md", "cost-models.md"):
        text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
        assert "0.67" in text and "vllm-2023" in text
