"""`simserve place`: which placements there are, that the best of them is found, that it can be interrupted, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.cli import main
from simserve.config.experiment import load
from simserve.errors import ConfigError, OutputError
from simserve.model import load_model
from simserve.study.capacity.search import capacity
from simserve.study.placement import search as placement_search
from simserve.study.placement.bounded import PlacementBounds
from simserve.study.placement.candidates import placements
from simserve.study.placement.placement import Affinity, Placement, Pool
from simserve.study.placement.search import experiment_at, find, place, specify

WHEN = "ttft.p90 <= 0.2 and tpot.p90 <= 0.1"
SCHEDULER = {"policy": "distserve"}
EXPERIMENT: dict[str, Any] = {
    "name": "chat",
    "model": "opt-13b",
    "hardware": "a100-sxm-80gb",
    "engine": {"name": "vllm-v0", "request_path": {"per_request_s": 0, "per_prompt_token_s": 0}},
    "cost": {"polynomial": "distserve-a100"},
    "cluster": {
        "instances": [
            {"role": "prefill", "scheduler": SCHEDULER, "kv": {"memory_utilisation": 0.95}},
            {"role": "decode", "scheduler": SCHEDULER, "kv": {"memory_utilisation": 0.95}},
            {"role": "mixed", "scheduler": {"policy": "vllm-v0", "max_seqs": 200}},
        ]
    },
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 3},
        "lengths": {
            "prompt": {"kind": "normal", "mean_tokens": 750, "sd_tokens": 580, "min_tokens": 10, "max_tokens": 2000},
            "output": {"kind": "lognormal", "median_tokens": 67, "sigma": 1.59, "min_tokens": 2, "max_tokens": 1024},
        },
        "count": 60,
    },
    "slo": {"ttft_s": 0.2, "tpot_s": 0.1},
}


def names(devices: int, node: int, affinity: Affinity, model: str = "opt-13b", kind: str = "disaggregated") -> list[str]:
    return [str(p) for p in placements(load_model(model), devices, node, affinity, (kind,))]  # type: ignore[arg-type]


def test_all_placements_of_three_devices() -> None:
    """By hand: one or two instances of one device, or one of two (tensor or pipeline), on either side; no placement has three of either."""
    assert names(3, 8, "high") == [
        "prefill tp1 + decode tp1",
        "prefill tp1 + decode 2 x tp1",
        "prefill 2 x tp1 + decode tp1",
        "prefill tp1 + decode tp1 pp2",
        "prefill tp1 + decode tp2",
        "prefill tp1 pp2 + decode tp1",
        "prefill tp2 + decode tp1",
    ]
    assert names(3, 8, "high", kind="mixed") == ["mixed tp1", "mixed tp1 pp2", "mixed tp2"]


def test_tensor_parallelism_stays_in_a_node() -> None:
    assert "mixed tp4" in names(4, 4, "high", kind="mixed")
    assert not [name for name in names(4, 2, "high", kind="mixed") if "tp4" in name]


def test_a_multiple_of_a_smaller_placement_is_left_out() -> None:
    assert "prefill 2 x tp1 + decode tp1" in names(6, 8, "high")
    assert "prefill 2 x tp1 + decode 2 x tp1" not in names(6, 8, "high")


def test_with_low_affinity_the_kv_stays_in_a_node() -> None:
    """Three devices in nodes of two: prefill and decode of the same layers cannot share a node. Two stages each can, a stage a node."""
    assert names(3, 2, "low") == ["prefill tp1 + decode tp1"]
    low = names(4, 2, "low")
    assert "prefill tp1 pp2 + decode tp1 pp2" in low and "prefill tp2 + decode tp2" not in low
    assert "prefill tp2 + decode tp2" in names(4, 2, "high")
    assert names(4, 4, "low") == names(4, 4, "high")


def test_no_placement_at_all_is_said() -> None:
    with pytest.raises(ConfigError, match="no placement of disaggregated instances of opt-13b on 1 devices"):
        names(1, 8, "high")
    with pytest.raises(ConfigError, match="found 0 devices"):
        names(0, 8, "high")


def test_a_pool_is_like_the_experiments_group_of_its_role() -> None:
    placement = Placement((Pool("prefill", 2, 2, 1), Pool("decode", 1, 1, 2)))
    prefill, decode = placement.groups(load(EXPERIMENT))
    assert (prefill["count"], prefill["parallel"], prefill["kv"]) == (2, {"tp": 2, "pp": 1}, {"memory_utilisation": 0.95})
    assert (decode["role"], decode["parallel"]) == ("decode", {"tp": 1, "pp": 2})
    (mixed,) = Placement((Pool("mixed", 1, 4, 1),)).groups(load(EXPERIMENT))
    assert mixed["scheduler"]["policy"] == "vllm-v0" and "kv" not in mixed
    first = {**EXPERIMENT, "cluster": {"instances": [{"scheduler": {"policy": "sarathi"}}]}}
    assert {group["scheduler"]["policy"] for group in placement.groups(load(first))} == {"sarathi"}


def test_the_winner_is_the_one_that_full_searches_find() -> None:
    """Dropping placements on the way must not change who wins: every placement of three devices, each searched to the end by itself, and
    no further than its instances can keep up, which a run of 60 requests does not show."""
    spec = specify(EXPERIMENT, 3, when=WHEN, kinds=("disaggregated",))
    result = find(spec, jobs=1)
    best = result.best
    assert best is not None and best.low is not None
    alone = {}
    bounded = PlacementBounds(lambda one: experiment_at(spec, one, 3.0), spec.predicate, 3.0)
    for tried in result.tried:
        groups = tried.placement.groups(load(EXPERIMENT))
        found = capacity(load(EXPERIMENT, {"cluster.instances": groups}), WHEN, tolerance=0.05, seeds=[0], jobs=1)
        demand = bounded.of(tried.placement).known.utilisation(tuple(pool.count for pool in tried.placement.pools))
        assert demand
        alone[str(tried.placement)] = min(found.rate or 0.0, 3.0 / demand) / tried.placement.devices
    assert alone[str(best.placement)] >= max(alone.values()) / 1.05
    assert best.low == pytest.approx(alone[str(best.placement)], rel=0.06)
    dropped = [t for t in result.tried if t.dropped]
    assert dropped and all(alone[str(t.placement)] <= 1.05 * (t.high or 0.0) for t in dropped)
    assert sum(t.probes for t in result.tried) < 0.6 * 8 * len(result.tried)
    assert sum(t.bounded for t in result.tried) > 0


def test_the_authors_own_example_of_a_search() -> None:
    """DistServe's public simulator: OPT-13B, four A100s, ShareGPT, 300 requests: prefill TP2 and decode TP1, 1.56 requests/s a device."""
    work = {"workload.count": 300}
    best = place(load(EXPERIMENT, work), 4, node_devices=4, when=WHEN, kinds=("disaggregated",), most_instances=1, jobs=1).best
    assert best is not None and str(best.placement) == "prefill tp2 + decode tp1"
    assert best.low == pytest.approx(1.56, abs=0.2)


def test_an_interrupted_search_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, calls = tmp_path / "search", []
    real = placement_search.execute

    def counted(tasks: Any, count: int, **kw: Any) -> Any:
        calls.append(count)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(tasks, count, **kw)

    monkeypatch.setattr(placement_search, "execute", counted)
    with pytest.raises(KeyboardInterrupt):
        place(EXPERIMENT, 2, when=WHEN, jobs=1, out=out)
    with pytest.raises(OutputError, match="--resume"):
        place(EXPERIMENT, 2, when=WHEN, jobs=1, out=out)
    before = sum(calls[:2])
    result = place(EXPERIMENT, 2, when=WHEN, jobs=1, out=out, resume=True)
    assert sum(calls[3:]) == sum(t.probes for t in result.tried) - before
    monkeypatch.undo()
    assert result.as_dict() == place(EXPERIMENT, 2, when=WHEN, jobs=1).as_dict()
    again = load(out / "best.yaml")
    assert result.best is not None and [g.role for g in again.groups] == [pool.role for pool in result.best.placement.pools]


def test_what_does_not_fit_is_named_and_left_out() -> None:
    """OPT-66B has no coefficients for one device; two devices' worth of weights and a cache fit."""
    big = {**EXPERIMENT, "model": "opt-66b", "slo": {"ttft_s": 5}, "workload": {**EXPERIMENT["workload"], "count": 20}}
    result = place(big, 2, kinds=("mixed",), when="ttft.p90 <= 5", jobs=1)
    assert result.best is not None and str(result.best.placement) == "mixed tp2"
    assert any("mixed tp1" in note and "tp 2, 4, 8; found tp 1" in note for note in result.notes)
    with pytest.raises(ConfigError, match="no placement can be run"):
        place(big, 1, kinds=("mixed",), when="ttft.p90 <= 5", jobs=1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    options = ["place", str(file), "--devices", "2", "--when", WHEN, "--jobs", "1", "--out", str(tmp_path / "out")]
    assert main([*options, "--rate", "12"]) == 0
    shown = capsys.readouterr().out
    assert "Best: mixed tp2" in shown and "serve 12 requests/s" in shown and "prefill tp1 + decode tp1" in shown
    assert main([*options, "--json", "--resume", "-q"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["best"] == "mixed tp2" and answer == json.loads((tmp_path / "out" / "placement.json").read_text())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--when", "ttft.p9"], "not a condition"),
        (["--tolerance", "0"], "tolerance"),
        (["--rate-key", "workload.nothing"], "found nothing"),
        (["--devices", "0"], "needs devices"),
        (["--devices", "64"], "use fewer devices"),
    ],
)
def test_mistakes_are_said_before_anything_runs(options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    assert main(["place", str(file), "--devices", "2", *options]) == 2
    assert text in capsys.readouterr().err


def test_nowhere_is_an_answer_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    assert main(["place", str(file), "--devices", "2", "--when", "ttft.p90 <= 0.01", "--jobs", "1", "-q"]) == 1
    assert "No placement holds" in capsys.readouterr().out
