"""The key of a kept prediction covers everything that the prediction goes through."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from builders import case

import simserve
from simserve.config.engine_profile import FOLDER
from simserve.model.library import load_model
from simserve.validation.case import Lengths, Load, Pool
from simserve.validation.evaluate import evaluate
from simserve.validation.predict import predict
from simserve.validation.prediction_cache import NO_PART, PredictionCache, code_digest, code_files

PACKAGE = Path(simserve.__file__).resolve().parent
ON_THE_PATH = ["config", "contracts", "cost", "engine", "files", "hardware", "model", "policies", "resources.py", "uncertainty"]
ON_THE_PATH += ["validation", "workload"]


def executed() -> set[Path]:
    """The files of simserve in which a function is called while cases of every kind are predicted."""
    seen: set[str] = set()
    apart = case(gpu="h200-sxm-141gb", pools=(Pool(1, 1), Pool(2, 1)))
    cases = [
        case(label="another"),
        replace(apart, load=Load("open", Lengths(256.0), Lengths(16.0), requests=20, rate_per_s=4.0)),
        case(load=Load("phases", Lengths(512.0), Lengths(16.0), concurrency=4), profile="vllm-2023"),
        case(profile="sglang", settings={"batch_wait_steps": 4, "batch_wait_fraction": 0.5}),
        case(load=Load("repeated", Lengths(600.0), Lengths(16.0), requests=40, rate_per_s=4.0, distinct_prompts=4)),
    ]
    sys.setprofile(lambda frame, event, arg: seen.add(frame.f_code.co_filename))
    try:
        for one in cases:
            predict(one)
    finally:
        sys.setprofile(None)
    return {Path(name) for name in seen if name.startswith(f"{PACKAGE}/")}


def test_all_that_runs_in_a_prediction_is_in_the_key() -> None:
    files = executed()
    assert files <= set(code_files())
    packages = {file.relative_to(PACKAGE).parts[0] for file in files}
    assert (
        {"config", "contracts", "cost", "engine", "model", "policies", "validation", "workload"}
        <= packages
        <= set(ON_THE_PATH)
        | {
            "bounds.py",
            "catalogue.py",
            "errors.py",
            "hints.py",
            "plugins.py",
        }
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("copy") / "simserve"
    return shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__", "_data"))


def changed(copy: Path, name: str) -> bool:
    """Whether the digest changes with one file of a package (or with the module of that name)."""
    before = code_digest(copy)
    file = copy / name if name.endswith(".py") else sorted((copy / name).rglob("*.py"))[-1]
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "\n# changed\n", encoding="utf-8")
    after = code_digest(copy)
    file.write_text(text, encoding="utf-8")
    assert code_digest(copy) == before
    return after != before


@pytest.mark.parametrize("name", ON_THE_PATH)
def test_a_change_in_any_package_of_the_path_changes_the_key(copy: Path, name: str) -> None:
    assert changed(copy, name)


@pytest.mark.parametrize("name", sorted(NO_PART - {"_data"}))
def test_what_shows_results_or_makes_profiles_does_not(copy: Path, name: str) -> None:
    assert not changed(copy, name)


def test_a_file_that_is_renamed_or_added_changes_the_key(copy: Path) -> None:
    before = code_digest(copy)
    (copy / "engine" / "new.py").write_text("")
    assert code_digest(copy) != before
    (copy / "engine" / "new.py").unlink()
    assert code_digest(copy) == before


def test_a_users_model_and_engine_count_by_their_content(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 8, "vocab_size": 1000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    }  # fmt: skip
    model, engine = tmp_path / "config.json", tmp_path / "mine.yaml"
    profile = yaml.safe_load((FOLDER / "vllm-v1.yaml").read_text(encoding="utf-8")) | {"name": "mine"}
    keys = []
    for layers, step_s in ((2, 0.001), (3, 0.001), (3, 0.002)):
        model.write_text(json.dumps(config | {"num_hidden_layers": layers}))
        profile["host"]["per_step_s"] = step_s
        engine.write_text(yaml.safe_dump(profile))
        keys.append(PredictionCache(tmp_path / "kept").key(case(model=str(model), profile=str(engine))))
    assert len(set(keys)) == 3 and load_model(str(model)).num_layers == 3
    assert PredictionCache(tmp_path / "kept").key(case(model=str(model), profile=str(engine))) == keys[-1]


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate([case(model="who/knows")], cache=tmp_path / "file" / "below", workers=1)[0].skip
