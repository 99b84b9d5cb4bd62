"""Caches: every one is listed here; each is bounded, has all inputs in its key, and is never needed; those on disk are safe for two
processes at once."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml

import simserve
from benchmarks.soak import simserve_caches
from simserve import resources
from simserve.config import engine_profile
from simserve.errors import SimserveError
from simserve.files.kept import KeptArrays
from simserve.model import load_model
from simserve.prices.price_list import BUNDLED
from simserve.study.cache import RunCache, run_key
from simserve.validation.believed import sparsity
from simserve.validation.prediction_cache import PredictionCache
from simserve.validation.split import _architecture as model_group_of
from tests.engine.campaign import digest, run
from tests.engine.random_experiments import RandomExperiment, experiment

PACKAGE = Path(simserve.__file__).parent

ARGUMENTS = "its arguments alone"
SHIPPED = "its arguments and files that ship with simserve"
FILE = "its arguments, among them the time of the file that it reads"
PACKAGES = "its arguments and the installed packages, which a process sees as they were when it first asked"
PROCESS = "the process: what it has imported, compiled or started once"

CACHES = {
    "calibration/measure/attention_kernels/varlen.py": {"_function": PROCESS},
    "calibration/measure/operators/elementwise.py": {"_compiled": PROCESS},
    "calibration/model_layers.py": {"_operators": SHIPPED},
    "config/cost_models.py": {"names": PACKAGES, "cost_class": PACKAGES},
    "config/shared_costs.py": {"_tables": ARGUMENTS, "cost_of": ARGUMENTS},
    "config/engine_profile.py": {"_names": FILE, "_load": FILE},
    "config/experiment.py": {"_sha256": FILE},
    "config/hardware_file.py": {"profile_at": FILE},
    "config/held_out.py": {"_records": SHIPPED},
    "config/later.py": {"later": ARGUMENTS},
    "config/published_costs.py": {"_read": FILE},
    "config/verified_schedules.py": {"everything": SHIPPED},
    "cost/energy.py": {"traffic": ARGUMENTS, "_flops_per_expert_row": ARGUMENTS, "_by_window": ARGUMENTS, "_flops_per_token": ARGUMENTS},
    "cost/experts.py": {"_chosen_by_one": ARGUMENTS},
    "cost/grid.py": {"token_knots": ARGUMENTS},
    "deploy/flag_list.py": {"bundled": SHIPPED},
    "deploy/kubernetes.py": {"devices": SHIPPED},
    "engine/jitter.py": {"host_factors": ARGUMENTS, "stall_seconds": ARGUMENTS},
    "files/messages.py": {"_schema": ARGUMENTS},
    "files/yaml_values.py": {"_code": SHIPPED},
    "hardware/kept_factors.py": {"_code": SHIPPED},
    "model/cuts.py": {"problem": ARGUMENTS},
    "model/layer.py": {"layer_operators": ARGUMENTS},
    "model/layout.py": {"head_operators": ARGUMENTS},
    "model/library.py": {
        "_listed": SHIPPED,
        "_resolved": SHIPPED,
        "_bundled": SHIPPED,
        "_names": SHIPPED,
        "_index": SHIPPED,
        "_library": SHIPPED,
    },
    "model/name_words.py": {"parse": ARGUMENTS},
    "model/quantisation.py": {"_by_part": ARGUMENTS},
    "plugins.py": {"_all": ARGUMENTS, "_found": ARGUMENTS},
    "policies/registry.py": {"_points": PACKAGES, "_load": PACKAGES},
    "prices/price_list.py": {"_read": FILE},
    "report/charts.py": {"library": PROCESS},
    "report/page.py": {"_code": SHIPPED},
    "resources.py": {"_folder_beside": SHIPPED, "_listed": FILE, "_by_name": ARGUMENTS},
    "study/backends/joblib_processes.py": {"_leave_with": PROCESS},
    "study/cache.py": {"code_digest": SHIPPED, "_source_digest": PROCESS},
    "uncertainty/residuals.py": {"load": SHIPPED},
    "validation/accuracy.py": {"_entry": SHIPPED, "_texts": SHIPPED},
    "validation/devices.py": {"device_profile": SHIPPED},
    "validation/schedules/engines/sglang.py": {"_model_folder": PROCESS},
    "validation/schedules/engines/sglang_parts.py": {"load": PROCESS},
    "validation/schedules/engines/vllm_configuration.py": {
        "installed_version": PACKAGES,
        "imported": PROCESS,
        "_torch_before_vllm": PROCESS,
        "_as_on_a_gpu": PROCESS,
        "_model": PROCESS,
        "_model_folder": PROCESS,
    },
    "validation/warm_up.py": {"_table": SHIPPED},
    "workload/formats.py": {"of_packages": PACKAGES, "load": PACKAGES},
}
"""Of functions: file -> name -> what its answer depends on. A new cache comes with its line, and with a key that has all of it."""

MADE_ONCE = {("validation/schedules/kinds.py", "VLLM"), ("validation/schedules/kinds_sglang.py", "KINDS")}
"""Empty containers of modules that decorators fill while the module is imported, and nothing afterwards."""


def functions() -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """(file, function, decorator) of every cached function."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                text = ast.unparse(decorator)
                if "cache" in text and "cached_property" not in text:
                    yield path.relative_to(PACKAGE).as_posix(), node, text


def test_every_cache_is_listed() -> None:
    found: dict[str, set[str]] = {}
    for file, node, _ in functions():
        found.setdefault(file, set()).add(node.name)
    assert found == {file: set(names) for file, names in CACHES.items()}


def test_every_cache_is_bounded() -> None:
    """By a number of entries, or by having no arguments."""
    for file, node, decorator in functions():
        without_bound = decorator in ("cache", "functools.cache") or "maxsize=None" in decorator
        assert not (without_bound and (node.args.args or node.args.kwonlyargs or node.args.vararg)), (file, node.name)
        assert not any(argument.arg == "self" for argument in node.args.args), f"{file}: {node.name} keeps its objects"
    for cache in simserve_caches():
        assert cache.cache_info().maxsize is not None or cache.cache_info().currsize <= 1, cache


def test_no_module_keeps_things_otherwise() -> None:
    """No empty container of a module that is filled later, no `global`."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).as_posix()
        assert not any(isinstance(node, ast.Global) for node in ast.walk(tree)), name
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and value is not None and ast.unparse(value) in ("{}", "[]", "set()", "dict()", "list()"):
                found.add((name, target.id))
    assert found == MADE_ONCE


# -- keys have all inputs: what a warm cache answers is what an empty one does ------------------------------------------------------------

SEEDS = range(1000, 1012)


def outcome(case: RandomExperiment, folder: Path) -> str:
    """A hash of the records, or the refusal."""
    try:
        return digest(run(case, folder, check=False).records)
    except SimserveError as error:
        return str(error).replace(str(folder), "")


def test_what_other_experiments_have_left_in_the_caches_changes_nothing(tmp_path: Path) -> None:
    alone = {}
    for seed in SEEDS:
        for cache in simserve_caches():
            cache.cache_clear()
        alone[seed] = outcome(experiment(seed), tmp_path)
    assert len(set(alone.values())) == len(SEEDS), "experiments that differ"
    order = [*SEEDS, *SEEDS]
    Random(0).shuffle(order)
    for seed in order:
        assert outcome(experiment(seed), tmp_path) == alone[seed], seed


UNCACHED = """
import functools, sys
real = functools.lru_cache
def lru_cache(maxsize=128, typed=False):
    function = maxsize if callable(maxsize) else None
    if function is not None and not function.__module__.startswith("simserve"):
        return real(function)
    def decorate(function):
        return function if function.__module__.startswith("simserve") else real(maxsize, typed)(function)
    return decorate if function is None else function
functools.lru_cache = lru_cache
functools.cache = lambda function: lru_cache(None)(function)
from simserve.policies import registry
assert not hasattr(registry._load, "cache_info")
from tests.test_caches import SEEDS, outcome
from tests.engine.random_experiments import experiment
from pathlib import Path
for seed in SEEDS:
    print(outcome(experiment(seed), Path(sys.argv[1])))
"""


def test_none_is_needed(tmp_path: Path) -> None:
    """Without caches in memory, and where none can be kept on disk, every answer is the same."""
    (tmp_path / "file").write_text("no folder can be made here")
    environment = os.environ | {"SIMSERVE_CACHE": str(tmp_path / "file"), "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", UNCACHED, str(tmp_path)], env=environment, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [outcome(experiment(seed), tmp_path) for seed in SEEDS]


# -- files of the user's: changed on disk, they are read again ---------------------------------------------------------------------------

TINY = {
    "model": "llama-3-8b",
    "hardware": "mi300x",
    "workload": {
        "count": 3,
        "arrivals": {"kind": "constant", "rate_per_s": 1.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 9}, "output": {"kind": "fixed", "tokens": 3}},
    },
}
LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 1000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
TRACE = {"path": "requests.jsonl", "format": "simserve"}


def shipped(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def end_s(**keys: Any) -> float:
    return simserve.run({**TINY, **keys}).records.end_s


def usd_per_hour(**keys: Any) -> float:
    return float(simserve.run({**TINY, **keys}).summary_dict()["money"]["usd_per_hour"])


def changed(content: Any, *path: str, to: Any) -> Any:
    """The content with another value at a place."""
    first, *rest = path
    return {**content, first: changed(content[first], *rest, to=to) if rest else to}


FILES: dict[str, tuple[str, Any, Any, Callable[[str], Any]]] = {
    "hardware": (
        "mine.yaml",
        shipped(resources.find("hardware_profiles", "mi300x")) | {"name": "mine"},
        lambda content: changed(content, "device", "hbm_bytes_per_s", to=content["device"]["hbm_bytes_per_s"] / 2),
        lambda path: end_s(hardware=path),
    ),
    "engine": (
        "mine.yaml",
        shipped(engine_profile.FOLDER / "vllm-v1.yaml") | {"name": "mine"},
        lambda content: changed(content, "host", "per_step_s", to=0.5),
        lambda path: end_s(engine=path),
    ),
    "prices": (
        "mine.yaml",
        shipped(BUNDLED),
        lambda content: changed(content, "devices", "mi300x", "on_demand", to=123.0),
        lambda path: usd_per_hour(prices={"file": path}),
    ),
    "model": (
        "config.json",
        LLAMA,
        lambda content: content | {"num_hidden_layers": 3},
        lambda path: (end_s(model=path), model_group_of(path), load_model(path).num_layers),
    ),
    "experts": (
        "config.json",
        LLAMA,
        lambda content: (
            content | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2}
        ),
        sparsity,
    ),
    "trace": (
        "requests.jsonl",
        {"arrival_s": 0.0, "prompt_tokens": 5, "output_tokens": 3},
        lambda content: content | {"output_tokens": 4},
        lambda path: (
            end_s(workload={"trace": {**TRACE, "path": path}}),
            run_key(simserve.load({**TINY, "workload": {"trace": {**TRACE, "path": path}}})),
        ),
    ),
}
"""A file of the user's: its name, its content, how that changes, and what must change with it."""


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_was_changed_is_read_again(kind: str, tmp_path: Path) -> None:
    name, content, change, answer = FILES[kind]
    path = tmp_path / name
    answers = []
    for number, state in enumerate((content, change(content), content)):
        path.write_text(yaml.safe_dump(state) if name.endswith(".yaml") else json.dumps(state))
        os.utime(path, ns=(number, 10**18 + number))
        answers.append(answer(str(path)))
    assert answers[0] == answers[2]
    before, after = (given if isinstance(given, tuple) else (given,) for given in answers[:2])
    assert all(one != other for one, other in zip(before, after, strict=True)), (before, after)


# -- on disk: several processes at once ---------------------------------------------------------------------------------------------------

ROUNDS = 150
ROW = {f"figure_{k}": k / 3 for k in range(60)}


def _arrays(folder: Path, key: int) -> bool:
    kept, values = KeptArrays("numbers", most_files=8), np.arange(200.0) + key
    kept.put(f"{key:040x}", values)
    found = kept.get(f"{key:040x}")
    return found is None or found.tobytes() == values.tobytes()


def _rows(folder: Path, key: int) -> bool:
    cache, row = RunCache(folder), {name: value + key for name, value in ROW.items()}
    cache.put(f"{key:064x}", row)
    return cache.get(f"{key:064x}") == row


def _predictions(folder: Path, key: int) -> bool:
    cache = PredictionCache.__new__(PredictionCache)
    cache._folder = folder / "serving"
    cache.key = lambda case, overheads=None: f"{key:032x}"  # type: ignore[method-assign]
    predicted = {name: value + key for name, value in ROW.items()}
    cache.put(None, predicted, "")  # type: ignore[arg-type]
    return cache.get(None) == {"predicted": predicted, "skip": ""}  # type: ignore[arg-type]


ON_DISK = {"files/kept.py": _arrays, "study/cache.py": _rows, "validation/prediction_cache.py": _predictions}
"""By module: puts an answer of a key and gets it again; False where something else came out."""


def _hammer(asked: tuple[str, Path]) -> bool:
    module, folder = asked
    return all(ON_DISK[module](folder, number % 5) for number in range(ROUNDS))


@pytest.mark.parametrize("module", ON_DISK)
def test_two_processes_write_and_read_the_same_keys(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMSERVE_CACHE", str(tmp_path))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(_hammer, [(module, tmp_path)] * 2))
    assert not list(tmp_path.rglob("*.part"))
    assert 0 < sum(path.is_file() for path in tmp_path.rglob("*")) <= 8


def test_whatever_writes_beside_a_result_is_listed() -> None:
    """Modules that rename what they have written into a folder of caches."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "cache_folder(" in path.read_text(encoding="utf-8") or "class RunCache" in path.read_text(encoding="utf-8")
    }
    assert found - {"cli/validate.py"} == set(ON_DISK)
