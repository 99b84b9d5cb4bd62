"""The rules of the house, checked on the source itself: who may import whom, how long a file may be, what an import may cost, and that
everything that ships is found. `docs/architecture.md` states the same rules in words.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from simserve import resources

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "simserve"
SOURCES = sorted(PACKAGE.rglob("*.py"))
BESIDE = sorted((ROOT / "benchmarks" / "measured_runs").rglob("*.py"))  # in a checkout only, kept like the package

# What each package may import at run time, besides itself, EVERYWHERE and the version. One that is not here may import nothing.
# A name with a dot allows that module only.
ALLOWED_IMPORTS = {
    "model": set(),
    "policies": set(),
    "prices": set(),
    "progress": set(),
    "resources": set(),
    "speculation": set(),
    "workers": set(),
    "uncertainty": {"engine.records"},
    "hardware": {"resources"},
    "workload": {"resources"},
    "cost": {"hardware", "model"},
    "engine": {"speculation.draws", "workload.columns", "workload.joining", "workload.requests"},
    "report": {"engine.records", "engine.scaling_log", "uncertainty", "workload.columns"},
    "calibration": {"config", "cost", "hardware", "model", "progress", "report.plots.style", "resources"},
    "config": {"cost", "engine", "hardware", "model", "policies", "prices", "resources", "speculation", "workload"},
    "deploy": {"config", "model", "policies"},
    "api": {"config", "policies.blame", "progress", "report", "simulation", "study"},
    "simulation": {"config", "engine", "policies.blame", "report", "uncertainty.facts", "validation.accuracy"},
    "study": {
        *("config", "cost", "deploy", "engine.records", "hardware", "model", "policies", "progress", "report", "resources", "simulation"),
        *("uncertainty", "workers", "workload"),
    },
    "validation": {
        *("config", "cost", "engine", "hardware", "model", "policies", "resources", "speculation", "uncertainty", "workers", "workload"),
    },
    "cli": {
        "api",
        "calibration",
        "config",
        "deploy",
        "hardware",
        "model",
        "policies",
        "progress",
        "report",
        "resources",
        "study",
        "validation",
        "workload",
    },
    "contracts": {"compiled"},
    "errors": set(),
    "plugins": set(),
    "compiled": {"_compiled"},
    "version": set(),
    "files": {"bounds", "hints"},
    "catalogue": {"plugins"},
    "__init__": {"api", "config", "deploy", "report", "study"},
    "__main__": {"cli"},
}

NOT_SHIPPED = {"benchmarks", "tests"}

EVERYWHERE = {"bounds", "catalogue", "compiled", "contracts", "errors", "files", "hints", "plugins", "renamed", "version"}
"""What every package may import: the metrics, what policies are written against, how numbers are bounded, mistakes named, files read,
wrong words understood, old keys renamed, what records a version."""

# Third-party libraries that a package may load when it is imported; everything else is imported inside the functions that use it.
LIGHT = {"numpy", "pydantic", "pydantic_core"}
LIGHT_IN = {"engine": {"simpy", "sortedcontainers"}, "config": {"yaml"}, "files": {"yaml"}, "cli": {"typer"}}
PYTEST_PLUGIN = PACKAGE / "study" / "pytest_plugin.py"  # loaded by pytest only
HEAVY = ("dask", "jinja2", "joblib", "lightgbm", "matplotlib", "pandas", "pooch", "pyarrow", "ray", "scipy", "sklearn", "torch")

LONGEST_FILE = 400
LONGEST_CLASS = 800  # a file that is one class
MOST_BESIDE_A_CLASS = 60  # lines of docstring, imports and constants there


class Import(NamedTuple):
    """One imported name, as `a.b.c`, and whether it is loaded together with the module (not inside a function)."""

    name: str
    line: int
    at_import: bool


def imports(path: Path) -> Iterator[Import]:
    """Everything a file imports at run time; what only a type checker reads is left out."""

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: imports are absolute"
                yield from (Import(f"{child.module}.{alias.name}", child.lineno, at_import) for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_import and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def trespasses(path: Path) -> list[str]:
    own = package_of(path)
    allowed = ALLOWED_IMPORTS.get(own, set()) | ({own, *EVERYWHERE} if own not in EVERYWHERE else {own, "errors"})
    found = []
    for item in imports(path):
        parts = item.name.split(".")
        if parts[0] in NOT_SHIPPED:
            found.append(f"{path.relative_to(ROOT)}:{item.line}: imports {item.name}, which is not installed with it")
        if parts[0] != "simserve" or len(parts) == 1 or parts[1].startswith("__"):
            continue
        if not {".".join(parts[1:n]) for n in range(2, len(parts) + 1)} & allowed:
            found.append(f"{path.relative_to(ROOT)}:{item.line}: {own} imports {item.name}")
    return found


def test_every_package_keeps_to_its_imports():
    assert [line for path in SOURCES for line in trespasses(path)] == []


def test_the_import_rules_see_a_trespasser(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "policies").mkdir()
    bad = tmp_path / "policies" / "bad.py"
    bad.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from simserve.engine.plan import StepPlan\n")
    assert trespasses(bad) == []
    bad.write_text("def plan(view):\n    from simserve.engine.plan import StepPlan\n")
    assert trespasses(bad) == ["policies/bad.py:2: policies imports simserve.engine.plan.StepPlan"]
    bad.write_text("from benchmarks.measured_runs import TABLES\n")
    assert trespasses(bad) == ["policies/bad.py:1: imports benchmarks.measured_runs.TABLES, which is not installed with it"]


def test_only_the_engine_knows_simpy():
    users = {package_of(path) for path in SOURCES for item in imports(path) if item.name.split(".")[0] == "simpy"}
    assert users == {"engine"}


def test_the_engine_knows_no_policy_by_name():
    names = {path.stem for path in (PACKAGE / "policies" / "scheduling").glob("*.py")} - {"__init__"}
    for path in (PACKAGE / "engine").rglob("*.py"):
        assert not names & {part for item in imports(path) for part in item.name.split(".")}, path
        assert not any(item.name.startswith("simserve.policies") for item in imports(path)), path


def test_the_contracts_stand_below_everything():
    for path in (PACKAGE / "contracts").rglob("*.py"):
        read = {item.name.split(".")[1] for item in imports(path) if item.name.startswith("simserve.")}
        assert read <= {"compiled", "contracts", "errors"}, path


def test_nothing_below_the_command_line_prints():
    # Except: `python -m simserve.calibration.measure` and `.replay`, which run alone on a device, and the tables of `simserve trace`.
    allowed = {"workload/report.py", "calibration/measure/command.py", "calibration/replay/command.py"}
    found = []
    for path in SOURCES:
        name = path.relative_to(PACKAGE).as_posix()
        if package_of(path) in ("cli", "progress") or name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{name}:{node.lineno}")
    assert found == []


def lines_beside_the_class(text: str) -> int | None:
    """Lines outside the one class of a module, decorators counted with it; None when it has another class, a function or a statement
    besides the docstring, imports and constants."""
    module = ast.parse(text)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If, ast.Expr, ast.ClassDef)
    if len(classes) != 1 or not all(isinstance(node, plain) for node in module.body):
        return None
    for node in module.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            return None
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):  # docstrings of the module and of its constants
            return None
    first = min(node.lineno for node in (classes[0], *classes[0].decorator_list))
    return len(text.splitlines()) - ((classes[0].end_lineno or first) - first + 1)


def fits_in_a_head(text: str) -> bool:
    """400 lines, or one class that is one idea: the class alone with its imports and constants, these in 60 lines, all in 800."""
    total = len(text.splitlines())
    beside = lines_beside_the_class(text) if total > LONGEST_FILE else None
    return total <= LONGEST_FILE or (total <= LONGEST_CLASS and beside is not None and beside <= MOST_BESIDE_A_CLASS)


def test_files_fit_in_a_head():
    assert [path.relative_to(ROOT).as_posix() for path in SOURCES + BESIDE if not fits_in_a_head(path.read_text(encoding="utf-8"))] == []
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "misc")]


def test_a_long_file_is_one_class():
    head = '"""A doc."""\n\nfrom dataclasses import dataclass\n\nLIMIT = 3\n"""Of what."""\n\n\n'
    alone = head + "@dataclass\nclass One:\n" + "    x: int = 0\n" * 500
    assert lines_beside_the_class(alone) == 8
    assert fits_in_a_head(alone)
    assert not fits_in_a_head(alone + "\n\ndef helper():\n    pass\n")
    assert not fits_in_a_head(alone + "\n\nclass Two:\n    pass\n")
    assert not fits_in_a_head(alone + "\n\nfor _ in ():\n    pass\n")
    assert not fits_in_a_head("LIMIT = 3\n" * 60 + alone), "a table of constants is an idea of its own"
    assert not fits_in_a_head(head + "class One:\n" + "    x: int = 0\n" * 800), "a class that long is not one idea"
    assert not fits_in_a_head("x = 0\n" * 401)
    assert fits_in_a_head("x = 0\n" * 400)


def test_no_two_test_files_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names)), "pytest imports test modules by their bare name"


def test_every_module_says_what_it_is():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES + BESIDE}
    assert [name for name, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))] == []


def test_heavy_libraries_are_imported_where_they_are_used():
    found = []
    for path in SOURCES:
        for item in imports(path) if path != PYTEST_PLUGIN else ():
            top = item.name.split(".")[0]
            light = top in sys.stdlib_module_names or top == "simserve" or top in LIGHT | LIGHT_IN.get(package_of(path), set())
            if item.at_import and not light:
                found.append(f"{path.relative_to(ROOT)}:{item.line}: {item.name}")
    assert found == []


def _python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_everything_loads_nothing_heavy():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if path.stem not in ("__init__", "__main__")]
    code = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    assert _python(code).strip() == ""


def test_help_is_quick():
    # Processor time, the best of three: another program on the machine must not decide this.
    code = (
        "import os, subprocess, sys\n"
        "best = 9.0\n"
        "for _ in range(3):\n"
        "    before = os.times()\n"
        "    subprocess.run([sys.executable, '-m', 'simserve', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
        "    after = os.times()\n"
        "    best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)\n"
        "print(best)"
    )
    assert float(_python(code)) < 0.3


# What a run of a bundled model on one instance does without: sections that it does not state, what its engine and its costs do not do.
NOT_IN_A_PLAIN_RUN = {
    "config": ("claims", "failures_section", "plan_section", "probes", "provisioning_section", "speculating", "speculation_section"),
    "cost": ("coefficients", "cores.step", "draft_weights", "drafting", "polynomial"),
    "engine": ("guard", "check"),
    "report": ("charts", "frames", "page", "perfetto", "plots.latency", "plots.load"),
    "speculation": ("acceptance", "schedule", "speculated", "walks"),
    "study": ("",),
}

MOST_MODULES = 310
"""Of simserve, that such a run loads. Each takes a quarter of a millisecond of a start, those with classes of pydantic several."""


def test_a_plain_run_loads_what_it_uses(tmp_path):
    lengths = "{prompt: {kind: fixed, tokens: 9}, output: {kind: fixed, tokens: 9}}"
    workload = f"{{arrivals: {{kind: poisson, rate_per_s: 1}}, count: 1, lengths: {lengths}}}"
    (tmp_path / "one.yaml").write_text(f"model: llama-2-7b\nhardware: a100-sxm-80gb\nengine: sarathi-serve\nworkload: {workload}\n")
    arguments = ["run", str(tmp_path / "one.yaml"), "--out", str(tmp_path / "out"), "--no-plots", "--no-report", "--quiet"]
    code = f"import sys\nfrom simserve.cli import main\nassert main({arguments!r}) == 0\nprint('MODULES', *sys.modules)"
    loaded = set(_python(code).rsplit("MODULES", 1)[1].split())
    unused = {f"simserve.{package}.{name}".rstrip(".") for package, names in NOT_IN_A_PLAIN_RUN.items() for name in names}
    assert unused & loaded == set()
    assert {module.split(".")[0] for module in loaded} & set(HEAVY) == {"pyarrow"}
    assert len([module for module in loaded if module.split(".")[0] == "simserve"]) <= MOST_MODULES


def test_what_ships_is_found():
    assert {"quickstart", "closed_loop", "llama_70b_tp4"} <= set(resources.available("experiments"))
    assert {"a100-sxm-80gb", "h100-sxm-80gb"} <= set(resources.available("hardware_profiles"))
    assert "burstgpt-sample" in resources.available("traces")


def test_every_bundled_file_loads():
    import simserve
    from simserve.hardware import load_profile

    for name in resources.available("experiments"):
        simserve.load(name)
    for name in resources.available("hardware_profiles"):
        load_profile(name)


@pytest.mark.nightly
def test_a_wheel_holds_the_data(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {f"simserve/_data/{kind}" for kind in ("experiments", "hardware_profiles", "traces")}
    for folder in data:
        kind = folder.rsplit("/", 1)[1]
        ships = [p.relative_to(ROOT / kind).as_posix() for p in (ROOT / kind).rglob("*") if p.suffix in (".yaml", ".gz", ".csv")]
        assert {f"{folder}/{name}" for name in ships if not name.startswith(".")} <= names
        assert not [name for name in names if name.startswith(folder + "/.")], "unfinished files of a profile build are in the wheel"
    for template in (PACKAGE / "report" / "templates").iterdir():
        assert f"simserve/report/templates/{template.name}" in names
    for config in (PACKAGE / "model" / "configs").iterdir():
        assert f"simserve/model/configs/{config.name}" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]


def _tool(module: str, *arguments: str) -> None:
    pytest.importorskip(module, reason=f"{module} is not installed")
    run = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


def test_types():
    _tool("mypy")


def test_style():
    _tool("ruff", "check", "simserve", "tests", "benchmarks")
