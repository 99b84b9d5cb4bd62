"""`--set` changes single keys of the tree, lists by index, and is named in errors."""

from __future__ import annotations

from typing import Any

import pytest

import simserve
from simserve.config import overrides
from simserve.errors import ConfigError
from simserve.files import yaml_text

TEXT = "engine: vllm-v1\ncluster:\n  instances:\n    - {count: 1}\n    - {count: 2}\nseed: 0\n"


def changed(*changes: str) -> dict[str, Any]:
    return overrides.apply(yaml_text.parse(TEXT, "f.yaml"), changes).data


def test_values_are_yaml() -> None:
    assert changed("seed=1e3")["seed"] == 1000.0
    assert changed("seed={a: [1, no]}")["seed"] == {"a": [1, "no"]}
    assert changed("seed=")["seed"] is None
    assert changed("seed=a=b")["seed"] == "a=b"


def test_paths_go_through_lists_by_index_and_make_missing_sections() -> None:
    data = changed("cluster.instances.1.count=5", "cluster.instances.0.scheduler.policy=orca", "slo.classes.gold.ttft_s=1")
    assert [item["count"] for item in data["cluster"]["instances"]] == [1, 5]
    assert data["cluster"]["instances"][0]["scheduler"] == {"policy": "orca"}
    assert data["slo"] == {"classes": {"gold": {"ttft_s": 1}}}


def test_the_first_of_a_list_that_is_not_written_can_be_changed() -> None:
    """`cluster.instances.0` is the one group of an experiment that states none, whether or not it says so."""
    assert changed("cluster.controllers.0.policy=hpa")["cluster"]["controllers"] == [{"policy": "hpa"}]
    assert changed("plan.tp.0=2", "plan.over.0=1")["plan"] == {"tp": [2], "over": [1]}
    one = {"name": "one", "model": "llama-3.1-8b", "hardware": "h100-sxm-80gb"}
    load = {"arrivals": {"kind": "poisson", "rate_per_s": 1}, "lengths": {"prompt": {"kind": "fixed", "tokens": 9}}, "count": 2}
    load["lengths"]["output"] = {"kind": "fixed", "tokens": 2}
    found = simserve.load(one | {"workload": load}, **{"cluster.instances.0.parallel": {"tp": 2}})
    assert [(group.count, group.parallel.tp) for group in found.groups] == [(1, 2)]


def test_a_section_written_as_a_name_becomes_a_mapping() -> None:
    assert changed("engine.max_num_seqs=8")["engine"] == {"name": "vllm-v1", "max_num_seqs": 8}


def test_later_changes_win() -> None:
    assert changed("seed=1", "seed=2")["seed"] == 2


def test_the_document_itself_stays_as_it_was() -> None:
    document = yaml_text.parse(TEXT, "f.yaml")
    overrides.apply(document, ["cluster.instances.0.count=9"])
    assert document.data["cluster"]["instances"][0]["count"] == 1


def test_the_place_of_a_changed_value_is_the_override() -> None:
    document = overrides.apply(yaml_text.parse(TEXT, "f.yaml"), ["cluster.instances=[{count: x}]"])
    assert document.place(("cluster", "instances", 0, "count")) == "--set cluster.instances=[{count: x}]"
    assert document.place(("seed",)) == "f.yaml:6:7"


def test_python_overrides_take_values_as_they_are() -> None:
    assert overrides.apply(yaml_text.parse(TEXT, "f"), {"seed": 7, "cluster.instances.0.count": 3}).data["seed"] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "expected path.to.key=value"),
        ("=3", "expected path.to.key=value"),
        ("seed.x=3", "--set seed.x=3: 'seed' is 0, it has no key 'x'"),
        (
            "cluster.instances.7.count=3",
            "--set cluster.instances.7.count=3: 'cluster.instances' is a list; found index '7'. Allowed: 0 to 1",
        ),
        ("cluster.instances.first.count=3", "found index 'first'"),
        ("cluster..x=3", "an empty name"),
        ("seed=[1", "--set seed=\\[1:.*not valid YAML"),
    ],
)
def test_bad_overrides_name_themselves(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message if "\\" in message else message.replace("[", "\\[")):
        changed(change)


def test_a_colon_without_a_space_is_not_a_mapping_in_yaml() -> None:
    with pytest.raises(ConfigError, match=r"meant is \{tp: 2, ep: 2\}\?"):
        changed("seed={tp:2,ep:2}")
    assert changed("seed={'a:b': 1}")["seed"] == {"a:b": 1}
