"""Keys that were renamed: the old name gives the same run and a warning with both names; old results are read under the new names."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve import renamed
from simserve.errors import ConfigError
from simserve.report.files import read_summary

OLD: dict[str, Any] = {
    "model": {"name": "llama-3-8b", "options": {"prefill_layer_share": 0.5, "streaming_head_share": 0.25, "attention_scalar_share": 0.2}},
    "hardware": "a100-sxm-80gb",
    "cluster": {"instances": [{"role": "prefill"}, {"role": "decode"}], "network": {"bytes_per_s": 1e10, "hand_over": "push"}},
    "workload": {
        "count": 12,
        "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 64}, "output": {"kind": "fixed", "tokens": 4}},
        "slo_classes": [{"name": "fast", "share": 0.5}, {"name": "slow", "share": 0.25}],
    },
}

NEW_NAMES = {
    "hand_over": "kv_transfer",
    "share": "fraction",
    "prefill_layer_share": "prefill_layer_fraction",
    "streaming_head_share": "streaming_head_fraction",
    "attention_scalar_share": "attention_scalar_fraction",
}


def by_new_names(node: Any) -> Any:
    if isinstance(node, dict):
        return {NEW_NAMES.get(key, key): by_new_names(value) for key, value in node.items()}
    return [by_new_names(item) for item in node] if isinstance(node, list) else node


def test_an_old_name_gives_the_run_of_the_new_one_and_a_warning_with_both() -> None:
    before = copy.deepcopy(OLD)
    old, new = simserve.run(OLD), simserve.run(by_new_names(OLD))
    assert before == OLD
    assert old.experiment == new.experiment and "hand_over" not in old.experiment["cluster"]["network"]
    assert old.records.counters == new.records.counters and old.records.counters["transferred_tokens"] > 0
    notes = [text for text in old.summary_dict()["warnings"] if "is now called" in text]
    assert notes == [
        f"The key {key} is now called {new_name}; the old name will go with a later version."
        for key, new_name in [
            ("cluster.network.hand_over", "kv_transfer"),
            ("model.options.attention_scalar_share", "attention_scalar_fraction"),
            ("model.options.prefill_layer_share", "prefill_layer_fraction"),
            ("model.options.streaming_head_share", "streaming_head_fraction"),
            ("workload.slo_classes.0.share", "fraction"),
            ("workload.slo_classes.1.share", "fraction"),
        ]
    ]
    assert not [text for text in new.summary_dict()["warnings"] if "is now called" in text]


@pytest.mark.parametrize(
    "changes",
    [
        ["cluster.network.hand_over=push-layerwise"],
        {"cluster.network.hand_over": "push-layerwise"},
        {"cluster.network": {"bytes_per_s": 1e10, "hand_over": "push-layerwise"}},
    ],
)
@pytest.mark.parametrize("written", [OLD, by_new_names(OLD)], ids=["old", "new"])
def test_an_old_name_in_a_change_wins_over_what_is_written(written: dict[str, Any], changes: Any) -> None:
    from simserve.config import experiment

    loaded = experiment.load(written, changes)
    assert loaded.spec.cluster.network.kv_transfer == "push-layerwise"
    assert sum("hand_over" in text for text in loaded.old_keys) == 1


def test_a_mistake_under_an_old_key_is_placed_where_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "model: llama-3-8b\nhardware: a100-sxm-80gb\ncluster:\n  instances: [{role: prefill}, {role: decode}]\n"
        "  network: {hand_over: shove}\nworkload: {trace: {path: traces/burstgpt-sample.csv}}\n"
    )
    with pytest.raises(ConfigError, match=r"old\.yaml:5:24: cluster\.network\.kv_transfer: found text 'shove'"):
        simserve.load(path)


def test_both_names_at_once_are_an_error_that_names_the_old_one() -> None:
    both = {**by_new_names(OLD), "cluster": {"network": {"hand_over": "push", "kv_transfer": "pull"}}}
    with pytest.raises(ConfigError, match=r"cluster\.network\.hand_over: unknown key"):
        simserve.load(both)


def test_a_summary_of_an_earlier_version_is_read_under_the_new_names(tmp_path: Path) -> None:
    result = simserve.run(by_new_names(OLD))
    result.write(tmp_path / "out", plots=False, report=False)
    path = tmp_path / "out" / "summary.json"
    now = json.loads(path.read_text())
    old = json.loads(json.dumps(now).replace("transferred_tokens", "handed_over_tokens").replace('"kv_transfer"', '"hand_over"'))
    assert old != now
    path.write_text(json.dumps(old))
    found = read_summary(tmp_path / "out")
    assert found["cluster"] == now["cluster"] and found["counters"] == now["counters"] and found["experiment"] == now["experiment"]


def test_a_tree_without_old_keys_is_left_as_it_is() -> None:
    new = by_new_names(OLD)
    assert renamed.apply(new, renamed.EXPERIMENT_KEYS) is new
    assert renamed.apply({"model": "x", "workload": {"slo_classes": {"share": 1}}}, renamed.EXPERIMENT_KEYS)["workload"] == {
        "slo_classes": {"share": 1}
    }


def test_every_renamed_key_is_one_of_todays_and_the_old_one_is_not() -> None:
    from simserve.config.json_schema import experiment_schema

    text = json.dumps(experiment_schema())
    for old, new in renamed.EXPERIMENT_KEYS.items():
        assert f'"{new}"' in text and f'"{old.rpartition(".")[2]}"' not in text


def test_the_oracle_compares_across_all_of_them() -> None:
    """`benchmarks/renamed_keys.json` holds what `simserve.renamed` does, and names of records and bundled experiments besides."""
    file = Path(__file__).parents[2] / "benchmarks" / "renamed_keys.json"
    if not file.is_file():
        pytest.skip("a wheel has no benchmarks")
    known = json.loads(file.read_text())
    for old, new in renamed.SUMMARY_KEYS.items():
        assert known[old] == ".".join([*old.split(".")[:-1], new])
