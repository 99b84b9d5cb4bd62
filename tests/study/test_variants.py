"""An experiment with variants: a sweep runs each of them at every point, a search takes one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.files.yaml_text import dump
from tests.study.conftest import BUDGET, RATE

SLOTS = "cluster.instances.0.scheduler.max_seqs"


@pytest.fixture
def two(tiny: dict[str, Any]) -> dict[str, Any]:
    """`wide` is the experiment as it stands, `narrow` has one sequence slot."""
    return {**tiny, "variants": {"narrow": {SLOTS: 1}, "wide": {}}}


def test_every_variant_runs_at_every_point(two: dict[str, Any], tiny: dict[str, Any]) -> None:
    result = simserve.sweep(two, {RATE: [4.0, 40.0]}, jobs=1)
    assert list(result.frame["variant"]) == ["narrow", "narrow", "wide", "wide"] and result.keys == ("variant", RATE)
    narrow = simserve.run(tiny, **{SLOTS: 1, RATE: 40.0}).summary_dict()
    assert result.frame["ttft_p99_s"][1] == narrow["latency"]["all"]["ttft_s"]["p99"] > result.frame["ttft_p99_s"][3]
    assert len(result.plot.lines("ttft_p99_s").get_lines()) == 2


def test_variants_alone_are_a_sweep_and_may_be_chosen(two: dict[str, Any]) -> None:
    assert list(simserve.sweep(two, jobs=1).frame["variant"]) == ["narrow", "wide"]
    chosen = simserve.sweep(two, {RATE: [4.0], "variant": ["wide"]}, jobs=1).frame
    assert list(chosen["variant"]) == ["wide"] and list(chosen["status"]) == ["ok"]


def test_all_variants_see_the_same_sample(two: dict[str, Any]) -> None:
    frame = simserve.sweep(two, {RATE: {"low": 2.0, "high": 8.0}}, method="latin-hypercube", sample=3, jobs=1).frame
    rates = frame.groupby("variant")[RATE].apply(list)
    assert rates["narrow"] == rates["wide"] and len(set(rates["wide"])) == 3


def test_listed_points_cross_the_variants_or_name_them(two: dict[str, Any]) -> None:
    assert len(simserve.sweep(two, points=[{RATE: 4.0}, {RATE: 8.0}], jobs=1).frame) == 4
    named = simserve.sweep(two, points=[{RATE: 4.0, "variant": "wide"}, {RATE: 8.0, "variant": "narrow"}], jobs=1).frame
    assert list(named["variant"]) == ["wide", "narrow"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"variant": ["narow"]}, "no variant 'narow'; did you mean 'narrow'"),
        ({SLOTS: [1, 2]}, r"max_seqs would undo what variant 'narrow' changes"),
        ({"cluster.instances.0.scheduler": [{"policy": "orca"}]}, "would undo what variant 'narrow' changes"),
        ({"variant": [["wide"]]}, "no variant"),
    ],
)
def test_mistakes_are_named_before_anything_runs(two: dict[str, Any], over: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simserve.sweep(two, over, jobs=1)


def test_a_key_that_the_chosen_variants_leave_alone_may_change(two: dict[str, Any]) -> None:
    assert len(simserve.sweep(two, {SLOTS: [1, 2], "variant": ["wide"]}, jobs=1).frame) == 2
    assert len(simserve.sweep(two, {BUDGET: [128, 512]}, jobs=1).frame) == 4


def test_an_experiment_without_variants_has_none_to_choose(tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the experiment has no variants"):
        simserve.sweep(tiny, {"variant": ["a"]}, jobs=1)


def test_an_experiment_of_probes_has_nothing_to_simulate() -> None:
    with pytest.raises(ConfigError, match="probes and no workload"):
        simserve.sweep("qserve_a100_table", jobs=1)


def test_capacity_of_a_variant(two: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow, wide = (
        simserve.capacity(two, "ttft.p90 <= 0.2", variant=name, replicates=1, tolerance=0.3, jobs=1) for name in two["variants"]
    )
    assert narrow.rate is not None and wide.rate is not None and narrow.rate < wide.rate and narrow.name == "tiny.narrow"
    (tmp_path / "two.yaml").write_text(dump(two))
    options = ["--when", "ttft.p90 <= 0.2", "--replicates", "1", "--tolerance", "30%", "--jobs", "1"]
    assert main(["capacity", str(tmp_path / "two.yaml"), *options]) == 0
    assert "it has the variants narrow, wide" in capsys.readouterr().err
    assert main(["capacity", str(tmp_path / "two.yaml"), *options, "--variant", "widest"]) == 2
    assert "did you mean 'wide'" in capsys.readouterr().err
