"""The JSON Schema knows every policy's parameters and every engine's flags; the reference page is made from the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.cli import main
from simserve.config import engine_profile
from simserve.config.json_schema import experiment_schema, policy_schema
from simserve.config.reference import reference
from simserve.errors import ConfigError
from simserve.policies import registry


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(item) for item in node)) if isinstance(node, list) else set()


def test_every_reference_leads_somewhere() -> None:
    schema = experiment_schema()
    assert {name.removeprefix("#/$defs/") for name in references(schema)} <= set(schema["$defs"])


@pytest.mark.parametrize("name", registry.scheduler_names())
def test_each_policy_is_a_branch_with_its_own_parameters(name: str) -> None:
    schema = experiment_schema()
    branch = schema["$defs"][f"scheduler {name}"]
    assert {"$ref": f"#/$defs/scheduler {name}"} in schema["$defs"]["SchedulerSection"]["oneOf"]
    assert branch["properties"]["policy"] == {"const": name}
    assert set(branch["properties"]) == {"policy", *registry.scheduler_class(name).Params.model_fields}
    assert branch["additionalProperties"] is False, "an editor marks unknown parameters"
    assert set(policy_schema(name)["properties"]) == set(registry.scheduler_class(name).Params.model_fields)


def test_engines_are_branches_with_their_own_flags() -> None:
    branches = experiment_schema()["$defs"]["EngineSection"]["oneOf"]
    by_name = {branch["properties"]["name"].get("const"): branch for branch in branches}
    for name in engine_profile.names():
        assert {flag.split(".")[0] for flag in engine_profile.load_engine(name).flags} < set(by_name[name]["properties"])
    assert "max_num_seqs" in by_name["vllm-v1"]["properties"]
    assert "max_num_seqs" not in by_name["orca"]["properties"]


def test_words_are_listed_for_completion() -> None:
    definitions = experiment_schema()["$defs"]
    assert "shortest-job" in definitions["InstanceSection"]["properties"]["order"]["enum"]
    assert {"$ref": "#/$defs/router round-robin"} in definitions["RouterSection"]["oneOf"]
    assert "freeness" in definitions["router round-robin"]["properties"]["decode_policy"]["enum"]


def test_every_key_is_described() -> None:
    def undescribed(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        own = [f"{path}.{key}" for key, child in node.get("properties", {}).items() if not {"description", "const", "$ref"} & set(child)]
        return own + [found for key, child in node.items() if key != "properties" for found in undescribed(child, f"{path}.{key}")]

    schema = experiment_schema()
    assert [found for found in undescribed(schema, "") if not found.endswith(".kind")] == []


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == experiment_schema()
    assert main(["schema", "--policy", "sarathi"]) == 0
    assert "token_budget" in json.loads(capsys.readouterr().out)["properties"]


def test_an_unknown_policy_has_no_schema() -> None:
    with pytest.raises(ConfigError, match="did you mean 'orca'"):
        policy_schema("orka")


def test_the_reference_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "experiment-reference.md"
    assert page.read_text() == reference(), "run: simserve schema --markdown > docs/experiment-reference.md"


def test_the_reference_names_every_policy_parameter_and_flag() -> None:
    text = reference()
    for name in registry.scheduler_names():
        assert f"### `{name}`" in text
        for parameter in registry.scheduler_class(name).Params.model_fields:
            assert f"| `{parameter}` |" in text
    for name in engine_profile.names():
        for flag, key in engine_profile.load_engine(name).flags.items():
            assert f"| `{flag}` | `{key}` |" in text
