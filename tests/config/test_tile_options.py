"""Words and numbers of `task_table`, `padding` and their probes that make no sense: named, with exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simserve.cli import main
from simserve.config.experiment import load
from simserve.errors import ConfigError
from simserve.study.part_seconds import run_part_s
from simserve.study.probes import evaluate

BASE: dict[str, Any] = {
    "name": "tiles",
    "model": {"name": "qwen2-7b", "options": {"task_table": {"reorder": "snake"}}},
    "hardware": "ascend-910b",
    "engine": "vllm-v1",
    "cluster": {"instances": [{"max_model_len": 4096}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 20},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 600}, "output": {"kind": "fixed", "tokens": 10}},
        "count": 20,
    },
}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"task_table": {"reorder": "snak"}}, "snake"),
    ({"task_table": {"cores": 0}}, "cores"),
    ({"task_table": {"prefill_tile_rows": 0}}, "prefill_tile_rows"),
    ({"task_table": {"decode_tile_rows": 0}}, "decode_tile_rows"),
    ({"task_table": {"prefill_tile_rows": 8}}, "below decode_tile_rows 16"),
    ({"task_table": {"tile": 128}}, "tile"),
    ({"task_table": {"plain_mfu": 0.5}}, "launches: separate"),
    ({"task_table": {"plain_mfu": 0.5, "launches": "separate"}}, "stated together"),
    ({"task_table": {}, "kv_bits": 4}, "other attention options"),
    ({"task_table": {}, "prefill_layer_fraction": 0.5}, "other attention options"),
    ({"padding": "virtul"}, "virtual"),
    ({"padding": "virtual", "linear_tiles": {"qkv": 0}}, "qkv"),
    ({"linear_tiles": {"qkv": 64}}, "set padding"),
]


def written(tmp_path: Path, options: dict[str, Any], **others: Any) -> Path:
    path = tmp_path / "tiles.yaml"
    name = others.pop("name", "qwen2-7b")
    path.write_text(yaml.safe_dump({**BASE, "model": {"name": name, "options": options}, **others}))
    return path


def run(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["run", str(path), "--out", str(path.parent / "out")])
    return code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("options", "words"), MISTAKES)
def test_mistakes_are_named(options: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = run(written(tmp_path, options), capsys)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_models_and_layouts_that_it_cannot_apply_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = run(written(tmp_path, {"task_table": {}}, name="deepseek-v2-lite"), capsys)
    assert (code, "latent attention (MLA)" in err) == (2, True)


def test_a_run_with_tiles_is_the_same_in_spans_and_step_by_step(tmp_path: Path) -> None:
    """`--check` takes every step again by itself and compares."""
    assert main(["run", str(written(tmp_path, {"task_table": {}})), "--out", str(tmp_path / "out"), "--check"]) == 0


def test_seconds_of_a_part_over_a_run(tmp_path: Path) -> None:
    experiment = load(written(tmp_path, {"task_table": {"reorder": "none"}}))
    every, mixed = (run_part_s(experiment, "attention", mixed=mixed) for mixed in (False, True))
    assert 0 < mixed < every
    with pytest.raises(ConfigError, match="no step of the run has a part 'attentio'; did you mean 'attention'"):
        run_part_s(experiment, "attentio")


def test_probes_of_a_run_and_of_a_sweep(tmp_path: Path) -> None:
    probes = {
        "attention": {"measure": "run_part_s", "part": "attention", "steps": "mixed"},
        "sweep": {"measure": "prefill_sweep_s", "prompt_tokens": 2, "part": "gemm"},
        "one": {"measure": "prefill_s", "prompt_tokens": 1, "part": "gemm"},
        "two": {"measure": "prefill_s", "prompt_tokens": 2, "part": "gemm"},
    }
    values = evaluate(load(written(tmp_path, {"task_table": {}}, probes=probes))).values
    one, two, sweep = (values[name] or 0.0 for name in ("one", "two", "sweep"))
    assert sweep == pytest.approx((one * two) ** 0.5)
    assert values["attention"] == run_part_s(load(tmp_path / "tiles.yaml"), "attention", mixed=True)


@pytest.mark.parametrize(
    ("probe", "words"),
    [({"measure": "run_part_s"}, "needs part"), ({"measure": "prefill_s", "steps": "mixed"}, "steps is for run_part_s")],
)
def test_probes_that_say_too_little_or_too_much(probe: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load(written(tmp_path, {}, probes={"asked": probe}))
