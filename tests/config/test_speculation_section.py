"""The section `speculation`: what it means, engines' own names for it, and what is refused with which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.cli import main
from simserve.config import engine_profile, speculation
from simserve.config.assemble import assemble
from simserve.config.engine_speculation import by_batch
from simserve.config.experiment import Experiment, load
from simserve.config.json_schema import experiment_schema
from simserve.config.speculating import draft_of, speculated
from simserve.config.speculation_section import SpeculationSection
from simserve.errors import ConfigError
from simserve.workload.columns import Labels
from simserve.workload.requests import RequestTable

Write = Callable[..., Path]
ENGINE = "engine: {name: vllm-v1, max_num_seqs: 64}"
OWN_SCHEDULER = ("      scheduler: {policy: sarathi, token_budget: 512}\n", "")
EAGLE3 = "{method: eagle3, tokens: 3, acceptance: {rate: 0.8}}"
SMALL = "{method: draft-model, draft: llama-7b, tokens: 3, acceptance: {rate: 0.8}}"
TREE = "{method: eagle, tokens: 3, top_k: 4, verify_tokens: 9, acceptance: {rate: 0.8}}"
STAGES = [("parallel: {tp: 1}", "parallel: {tp: 1, pp: 2}")]


def loaded(write: Write, section: str = "", engine: str = "{name: vllm-v1-async}", *changes: tuple[str, str]) -> Experiment:
    stated = f"\nspeculation: {section}" if section else ""
    return load(write((ENGINE, f"engine: {engine}{stated}"), OWN_SCHEDULER, *changes))


def group(experiment: Experiment, number: int = 0) -> SpeculationSection:
    found = experiment.groups[number].speculation
    assert found is not None
    return found


def test_every_group_speculates_as_the_experiment_says(write: Write) -> None:
    experiment = loaded(write, EAGLE3)
    assert [one.speculation for one in experiment.groups] == [group(experiment)] * 2
    assert (group(experiment).method, group(experiment).tokens, group(experiment).top_k) == ("eagle3", 3, 1)
    resolved = experiment.resolved()
    assert "speculation" not in resolved
    assert resolved["cluster"]["instances"][0]["speculation"] == {"method": "eagle3", "tokens": 3, "acceptance": {"rate": 0.8}}
    assert load(resolved).resolved() == resolved


def test_a_group_changes_single_keys(write: Write) -> None:
    experiment = loaded(write, EAGLE3, "vllm-v1-async", ("    - count: 2", "    - count: 2\n      speculation: {tokens: 5}"))
    assert [group(experiment, number).tokens for number in (0, 1)] == [3, 5]
    assert group(experiment, 1).method == "eagle3"
    off = loaded(write, EAGLE3, "vllm-v1-async", ("    - count: 2", "    - count: 2\n      speculation: {tokens: 0}"))
    assert off.groups[0].speculation is not None
    assert off.groups[1].speculation is None


@pytest.mark.parametrize("section", ["{tokens: 0}", "{method: eagle3, tokens: 0}", "{method: eagle3, tokens: 0, acceptance: {rate: 0.8}}"])
def test_no_tokens_is_no_speculation(write: Write, section: str) -> None:
    """Nothing of it remains: the same resolved experiment, hence the same fingerprint and the same run."""
    with_none, without = loaded(write, section), loaded(write)
    assert with_none.resolved() == without.resolved()
    assert with_none.fingerprint() == without.fingerprint()


def test_one_key_turns_it_off_and_on(write: Write) -> None:
    path = write((ENGINE, f"engine: vllm-v1-async\nspeculation: {EAGLE3}"), OWN_SCHEDULER)
    assert load(path, ["speculation.tokens=0"]).groups[0].speculation is None
    assert group(load(path, ["speculation.tokens=5"])).tokens == 5
    assert group(load(path, ["cluster.instances.0.speculation.acceptance.rate=0.5"])).acceptance.rate == 0.5  # type: ignore[union-attr]


# -- engines' own names ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            "{name: vllm-v1-async, speculative_config: {method: eagle3, num_speculative_tokens: 3}}",
            {"method": "eagle3", "tokens": 3},
        ),
        (
            '{name: vllm-v1, speculative_config: \'{"method": "ngram", "num_speculative_tokens": 4}\'}',
            {"method": "ngram", "tokens": 4},
        ),
        (
            "{name: vllm-v1-async, speculative_config: {method: draft_model, model: llama-7b, num_speculative_tokens: 5,"
            " num_speculative_tokens_per_batch_size: [[1, 8, 5], [9, 32, 2], [33, 512, 0]]}}",
            {
                "method": "draft-model",
                "draft": "llama-7b",
                "tokens": 5,
                "by_batch": [{"from": 1, "tokens": 5}, {"from": 9, "tokens": 2}, {"from": 33, "tokens": 0}],
            },
        ),
        (
            # A head's checkpoint says nothing of its size that the model does not; a chain's width is its steps and one.
            "{name: sglang, speculative_algorithm: EAGLE3, speculative_draft_model_path: some/head, speculative_num_steps: 3,"
            " speculative_eagle_topk: 1, speculative_num_draft_tokens: 6}",
            {"method": "eagle3", "tokens": 3},
        ),
        (
            "{name: sglang, speculative_algorithm: EAGLE, speculative_num_steps: 5, speculative_eagle_topk: 4,"
            " speculative_num_draft_tokens: 16}",
            {"method": "eagle", "tokens": 5, "top_k": 4, "verify_tokens": 16},
        ),
        (
            "{name: tensorrt-llm, speculative_config: {decoding_type: MTP, max_draft_len: 4, draft_len_schedule: {4: 4, 8: 2, 32: 1}}}",
            {
                "method": "mtp",
                "tokens": 4,
                "by_batch": [{"from": 1, "tokens": 4}, {"from": 5, "tokens": 2}, {"from": 9, "tokens": 1}, {"from": 33, "tokens": 0}],
            },
        ),
        (
            "{name: tensorrt-llm-1.0, speculative_config: {decoding_type: Eagle, max_draft_len: 3, max_concurrency: 16}}",
            {"method": "eagle3", "tokens": 3, "by_batch": [{"from": 17, "tokens": 0}]},
        ),
        ("{name: mindie, plugin_params: {plugin_type: mtp, num_speculative_tokens: 1}}", {"method": "mtp", "tokens": 1}),
        ("{name: vllm-ascend, speculative_config: {method: deepseek_mtp, num_speculative_tokens: 1}}", {"method": "mtp", "tokens": 1}),
    ],
)
def test_engines_own_flags(write: Write, engine: str, expected: dict[str, Any]) -> None:
    found = group(loaded(write, "{acceptance: {rate: 0.6}}", engine)).resolved()
    assert found.pop("acceptance") == {"rate": 0.6}
    assert found == expected


def test_an_older_vllm_has_other_names(write: Write) -> None:
    engine = "{name: vllm-v0, speculative_model: llama-7b, num_speculative_tokens: 5, speculative_disable_by_batch_size: 8}"
    found = group(loaded(write, "{method: draft-model, acceptance: {rate: 0.6}}", engine))
    assert (found.draft, found.tokens, [(rule.size, rule.tokens) for rule in found.by_batch]) == ("llama-7b", 5, [(8, 0)])


@pytest.mark.parametrize(
    ("engine", "method", "draft"),
    [
        ("{name: vllm-v0, speculative_model: llama-7b, num_speculative_tokens: 5}", "draft-model", "llama-7b"),
        ("{name: vllm-v0, speculative_model: '[ngram]', num_speculative_tokens: 5}", "ngram", None),
        ("{name: llama.cpp, model_draft: llama-7b, draft_max: 5}", "draft-model", "llama-7b"),
    ],
)
def test_flags_that_can_mean_one_method_only_need_not_say_it(write: Write, engine: str, method: str, draft: str | None) -> None:
    found = group(loaded(write, "{acceptance: {rate: 0.6}}", engine))
    assert (found.method, found.draft, found.tokens) == (method, draft, 5)


def test_a_key_goes_over_a_flag(write: Write) -> None:
    engine = "{name: vllm-v1, speculative_config: {method: eagle3, num_speculative_tokens: 3}}"
    assert group(loaded(write, "{tokens: 5, acceptance: {rate: 0.6}}", engine)).tokens == 5


def test_sglang_runs_fewer_requests_at_once_with_speculation(write: Write) -> None:
    """server_args.py resets max_running_requests to 48 where it is not stated."""
    slots = [
        loaded(write, section, engine).groups[0].params.max_seqs
        for section, engine in ((EAGLE3, "sglang"), ("", "sglang"), (EAGLE3, "{name: sglang, max_running_requests: 96}"))
    ]
    assert slots == [48, 1024, 96]


def test_what_becomes_of_rejected_kv_is_the_engines(write: Write) -> None:
    found = {name: engine_profile.load_engine(name).speculation.rejected_kv for name in ("vllm-v1", "sglang", "tensorrt-llm")}
    assert found == {"vllm-v1": "kept", "sglang": "freed", "tensorrt-llm": "freed"}


@pytest.mark.parametrize(
    ("engine", "section", "changes", "words"),
    [
        ("vllm-v1", EAGLE3, STAGES, r"exp\.yaml:.*does not speculate with parallel\.pp 2: .*pipeline"),
        ("sglang", EAGLE3, STAGES, r"SGLang .*profile sglang.*parallel\.pp 2: .*server_args\.py"),
        (
            "sglang",
            EAGLE3,
            [("    - count: 2", "    - count: 2\n      scheduler: {policy: sarathi}")],
            r"scheduler\.policy sarathi: .*mixed chunked prefill .*switched off",
        ),
        (
            "sglang",
            EAGLE3,
            [("    - count: 2", "    - count: 2\n      scheduler: {policy: xy-serve}")],
            r"scheduler\.policy xy-serve: prompts and verifications share no step",
        ),
        ("vllm-v1", SMALL, [], "vLLM 0.8 to 0.13.* does not have 'draft-model'.*eagle3"),
        ("vllm-v1-async", TREE, [], r"speculation\.top_k 4: its proposers draft one chain"),
        ("orca", EAGLE3, [], "has no speculative decoding"),
        ("mindie", "{method: mtp, tokens: 2, acceptance: {rate: 0.7}}", [], r"speculation\.tokens 2: num_speculative_tokens can only be 1"),
        (
            "{name: vllm-v0, enable_chunked_prefill: true}",
            "{method: ngram, tokens: 2, acceptance: {rate: 0.7}}",
            [],
            r"scheduler\.chunked True: .*exclude each other before 0\.6\.4",
        ),
    ],
)  # fmt: skip
def test_what_an_engine_and_version_refuses(write: Write, engine: str, section: str, changes: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loaded(write, section, engine, *changes)


def test_every_refusal_of_a_profile_is_of_a_key_that_exists(write: Write) -> None:
    """A refusal of a key that no instance has would never speak."""
    for name in engine_profile.names():
        profile = engine_profile.load_engine(name)
        whole = loaded(write, "", name).groups[0].resolved() | {"speculation": SpeculationSection(tokens=1).model_dump()}
        for rule in profile.speculation.refused:
            node: Any = whole
            for part in rule.key.split("."):
                assert part in node, (name, rule.key)
                node = node[part]
            assert rule.above is not None or rule.values, (name, rule.key)


# -- mistakes ----------------------------------------------------------------------------------------------------------------------------

# "<" begins like EAGLE3, "@" is its acceptance.
BAD = {
    "{method: eagle3, tokens: 3}": r"speculation\.acceptance: this key is required and missing \(state one, .*Published mean",
    "{tokens: 3, @}": r"speculation\.method: this key is required and missing \(who drafts: draft-model, eagle",
    "{method: eagle3, @}": "tokens: this key is required and missing",
    "{method: eagel3, tokens: 3, @}": r"method: found text 'eagel3'.*did you mean 'eagle3'",
    "{method: eagle3, tokens: -1, @}": r"tokens: found -1, expected a number >= 0",
    "{method: eagle3, tokens: 4096, @}": r"tokens: found 4096, expected a number <= 128",
    "<acceptance: {rate: 1.2}}": r"acceptance\.rate: found 1\.2, expected a number <= 1",
    "<acceptance: {rate: -0.1}}": r"acceptance\.rate: found -0\.1, expected a number >= 0",
    "<acceptance: {}}": "acceptance: state one of rate, rates, length and lengths",
    "<acceptance: {rate: 0.8, length: 2}}": "rate and length both state the acceptance",
    "<acceptance: {rates: [0.8, 0.6]}}": r"acceptance\.rates: found rates of 2 positions, expected one for each of the 3",
    "<acceptance: {rates: [0.8, 0.9, 0.5]}}": r"acceptance\.rates: found 0\.9 at position 2 after 0\.8",
    "<acceptance: {rates: [0.8, 0.7, 1.5]}}": r"acceptance\.rates: found 1\.5",
    "<acceptance: {length: 4.5}}": r"acceptance\.length: found 4\.5: .* emits 1 to 4",
    "<acceptance: {length: 0.5}}": r"acceptance\.length: found 0\.5, expected a number >= 1",
    "<acceptance: {lengths: {5: 1}}}": r"acceptance\.lengths: found length 5: .* emits 1 to 4",
    "<acceptance: {lengths: {1: -1}}}": r"acceptance\.lengths: found weight -1",
    "<acceptance: {rate: 0.8, hit: 0.5}}": r"acceptance\.hit: is for method ngram",
    "<acceptance: {by: slo_clas, of: {chat: {rate: 0.8}}}}": r"acceptance\.by: found 'slo_clas', expected a column of names.*'slo_class'",
    "<acceptance: {by: priority, of: {chat: {rate: 0.8}}}}": "acceptance.by: found 'priority', expected a column of names",
    "<acceptance: {by: slo_class}}": "by: slo_class needs `of`",
    "<acceptance: {by: slo_class, of: {chat: {length: 9}}}}": r"acceptance\.of\.chat\.length: found 9",
    "<acceptance: {rate: 0.5, otherwise: {rate: 0.4}}}": "otherwise: is for `by` and `column`",
    "<acceptance: {column: acceptance_rat}}": r"acceptance\.column: found 'acceptance_rat'.*'acceptance_rate'",
    "<top_k: 0, @}": r"top_k: found 0, expected a number >= 1",
    "<verify_tokens: 6, @}": r"verify_tokens: found 6: a chain of 3 drafted tokens verifies 4",
    "<top_k: 2, verify_tokens: 3, @}": r"verify_tokens: found 3, expected at least 4",
    "<top_k: 2, @}": "verify_tokens: this key is required and missing",
    "<top_k: 2, verify_tokens: 12, @}": r"found 12: a tree of depth 3 and top_k 2 has at most 11",
    "{method: eagle3, draft: llama-7b, tokens: 3, @}": "draft: is for method draft-model",
    "{method: draft-model, tokens: 3, @}": "draft: this key is required and missing",
    "{method: draft-model, draft: llama-3.2-1x, tokens: 3, @}": r"draft: unknown model 'llama-3\.2-1x'",
    "<@, by_batch: [{from: 8, tokens: 4}]}": r"by_batch\.0\.tokens: found 4, expected at most tokens, which is 3",
    "<@, by_batch: [{from: 8, tokens: 2}, {from: 8, tokens: 1}]}": r"by_batch\.1\.from: found 8 after 8",
    "<@, by_batch: [{from: 0, tokens: 2}]}": r"by_batch\.0\.from: found 0, expected a number >= 1",
    "<top_k: 2, verify_tokens: 8, @, by_batch: [{from: 9, tokens: 2}]}": "a tree is drafted whole",
    "<@, rate: 0.5}": "unknown key",
    "<@, by_batch: [{size: 8, tokens: 2}]}": r"by_batch\.0\.size: unknown key",
    "3": "speculation: found 3, expected a mapping",
}  # fmt: skip


@pytest.mark.parametrize("section", BAD)
def test_mistakes_are_named(write: Write, section: str) -> None:
    text = section.replace("<", "{method: eagle3, tokens: 3, ").replace("@", "acceptance: {rate: 0.8}")
    with pytest.raises(ConfigError, match=BAD[section]) as found:
        loaded(write, text, _any_engine(write))
    assert "exp.yaml:4" in str(found.value)
    assert str(found.value).count("speculation") >= 1


def _any_engine(write: Write) -> str:
    """An engine without refusals of its own."""
    path = write().parent / "any.yaml"
    profile = engine_profile.load_engine("sglang").model_dump(mode="json", exclude_none=True)
    profile["name"] = "any"
    profile["speculation"] = {}
    path.write_text(json.dumps(profile))
    return "any.yaml"


def test_a_mistake_in_a_flag_is_told_at_the_flag(write: Write) -> None:
    bad = {
        "<method: medusa, num_speculative_tokens: 3}}": r"config\.method: .*Medusa heads are not simulated",
        "<method: eagle3, num_speculative_tokens: -3}}": r"engine\.speculative_config\.num_speculative_tokens: found -3",
        "<method: eagle3, tokens: 3}}": r"vllm-v1 has no flag 'speculative_config\.tokens'",
        "{name: vllm-v1, speculative_config: '{method: eagle3'}": "speculative_config: found .*expected a mapping, or one as JSON",
        ">num_speculative_tokens_per_batch_size: [[1, 8, 3], [10, 12, 1]]}}": "a range from 10 after one to 8",
        ">num_speculative_tokens_per_batch_size: [[8, 1, 3]]}}": "a range from 8 to 1, expected one that goes up",
        "{name: vllm-v1, speculative_config: '[1]'}": "speculative_config: found .*expected a mapping, or one as JSON",
        "{name: sglang, speculative_algorithm: STANDALONE, speculative_num_steps: 3}": r" speculation\.draft: this key is required",
    }  # fmt: skip
    for engine, words in bad.items():
        with pytest.raises(ConfigError, match=words):
            text = engine.replace("<", "{name: vllm-v1, speculative_config: {").replace(">", "{name: vllm-v1-async, speculative_config: {")
            loaded(write, "{acceptance: {rate: 0.8}}", text)


def test_what_two_parameters_of_a_policy_say_together_is_told_at_the_section(write: Write) -> None:
    small = ("    - count: 2", "    - count: 2\n      scheduler: {policy: xy-serve, token_budget: 8, reserved_tokens: 8}")
    with pytest.raises(ConfigError, match=r"exp\.yaml:\d+:\d+: cluster\.instances\.1\.scheduler: reserved_tokens 8 leave nothing"):
        loaded(write, "{method: eagle3, tokens: 3, acceptance: {rate: 0.8}}", "vllm-v1-async", small)


def test_a_draft_writes_the_tokens_of_its_model(write: Write) -> None:
    section = "{method: draft-model, draft: @, tokens: 3, acceptance: {rate: 0.8}}"
    with pytest.raises(ConfigError, match=r"speculation\.draft: found 'llama-3\.2-1b': it has a vocabulary of 128,256 tokens .* 32,000"):
        loaded(write, section.replace("@", "llama-3.2-1b"))
    assert group(loaded(write, section.replace("@", "llama-7b"))).draft == "llama-7b"


def test_more_drafts_than_the_context_holds(write: Write) -> None:
    longest = ("      parallel: {tp: 1}", "      parallel: {tp: 1}\n      max_model_len: 8")
    with pytest.raises(ConfigError, match=r"speculation\.tokens: found 8: .* do not fit into a context of 8 tokens"):
        loaded(write, "{method: eagle3, tokens: 8, acceptance: {rate: 0.8}}", "vllm-v1-async", longest)


@pytest.mark.parametrize("value", [True, -1, "8", [1]])
@pytest.mark.parametrize("table", ["off-from", "off-above"])
def test_a_batch_size_is_a_whole_number(table: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="expected a batch size as whole numbers"):
        by_batch(table, value)


# -- what the engine is told -------------------------------------------------------------------------------------------------------------


def table(**columns: Any) -> RequestTable:
    ones = np.ones(4, dtype=np.int64)
    return RequestTable.build(np.arange(4.0), 10 * ones, 5 * ones, **columns)


def section(acceptance: dict[str, Any], **more: Any) -> SpeculationSection:
    return SpeculationSection.model_validate({"method": "eagle3", "tokens": 2, "acceptance": acceptance, **more})


def test_acceptance_by_a_column_of_names() -> None:
    tasks = Labels.of(["code", "chat", "code", "maths"])
    of = {"code": {"rate": 1.0}, "chat": {"rate": 0.0}}
    told = speculated(section({"by": "task", "of": of, "otherwise": {"rates": [1.0, 0.0]}}), "kept", table(task=tasks), 1)
    assert [told.accepted(row, 3, 2) for row in range(6)] == [2, 0, 2, 1, 1, 1]
    with pytest.raises(ConfigError, match="column 'task' of the requests has 'maths', whose acceptance is not given"):
        speculated(section({"by": "task", "of": of}), "kept", table(task=tasks), 1)
    with pytest.raises(ConfigError, match="column 'task' of the requests is not stated"):
        speculated(section({"by": "task", "of": of}), "kept", table(), 1)
    with pytest.raises(ConfigError, match=r"column 'task' of the requests has no 'cod'.*'code'"):
        speculated(section({"by": "task", "of": {"cod": {"rate": 1}}, "otherwise": {"rate": 0}}), "kept", table(task=tasks), 1)


def test_acceptance_by_a_column_of_numbers() -> None:
    rates = np.array([1.0, 0.0, np.nan, 1.0])
    told = speculated(section({"column": "acceptance_rate", "otherwise": {"rates": [1.0, 0.0]}}), "kept", table(acceptance_rate=rates), 1)
    assert [told.accepted(row, 3, 2) for row in range(5)] == [2, 0, 1, 2, 1]
    with pytest.raises(ConfigError, match="is missing in row 2"):
        speculated(section({"column": "acceptance_rate"}), "kept", table(acceptance_rate=rates), 1)
    with pytest.raises(ConfigError, match="is not stated by any"):
        speculated(section({"column": "acceptance_rate"}), "kept", table(), 1)
    lengths = np.array([3.0, 1.0, 2.0, 3.0])
    told = speculated(section({"column": "acceptance_length"}), "kept", table(acceptance_length=lengths), 1)
    assert [told.accepted(row, 3, 2) for row in (0, 1, 3)] == [2, 0, 2]
    with pytest.raises(ConfigError, match=r"is 3\.5 in row 3: a step of 2 drafted tokens emits 1 to 3"):
        speculated(section({"column": "acceptance_length"}), "kept", table(acceptance_length=np.array([1, 1, 1, 3.5])), 1)


def test_a_rate_outside_its_bounds_is_no_column() -> None:
    with pytest.raises(ValueError, match="acceptance_length is below 1"):
        table(acceptance_length=np.array([1, 1, 1, 0.5]))
    with pytest.raises(ValueError, match="acceptance_rate is negative"):
        table(acceptance_rate=np.array([1, 1, 1, -0.5]))


def test_the_draft_is_told_to_the_costs(tmp_path: Path) -> None:
    tree = section({"rate": 0.5}, top_k=2, verify_tokens=6)
    found = draft_of(tree, tmp_path)
    assert (found.method, found.steps, found.top_k, found.width, found.model) == ("eagle3", 2, 2, 6, None)
    small = SpeculationSection.model_validate({"method": "draft-model", "draft": "llama-7b", "tokens": 4})
    model = draft_of(small, tmp_path).model
    assert model is not None and model.name == "llama-7b"
    told = speculated(tree, "freed", table(), 1)
    assert (told.most_drafted(2), told.passes(2), told.rejected_kv) == (5, 2, "freed")
    ngram = speculated(
        SpeculationSection.model_validate({"method": "ngram", "tokens": 4, "acceptance": {"rate": 0.5, "hit": 0.2}}), "kept", table(), 1
    )
    assert (ngram.passes(4), ngram.hit) == (0, 0.2)


def test_the_schema_knows_the_section_and_parts_of_flags() -> None:
    schema = experiment_schema()
    assert set(schema["$defs"]["SpeculationSection"]["properties"]) == set(SpeculationSection.model_fields)
    assert "from" in schema["$defs"]["ByBatchSection"]["properties"]
    vllm = next(branch for branch in schema["$defs"]["EngineSection"]["oneOf"] if branch.get("title") == "engine vllm-v1")
    assert "num_speculative_tokens" in vllm["properties"]["speculative_config"]["properties"]


def test_the_columns_of_requests_are_those_that_acceptance_names() -> None:
    from simserve.workload.columns import COLUMNS

    assert all(COLUMNS[name].kind == "number" for name in speculation.NUMBER_COLUMNS)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{method: eagle3, tokens: 3}", "speculation.acceptance"),
        ("{method: eagle3, tokens: 3, acceptance: {rate: 1.5}}", "speculation.acceptance.rate"),
        ("{method: eagle3, tokens: 3, acceptance: {length: 5}}", "emits 1 to 4"),
        ("{method: eagle3, tokens: 3, top_k: 0, acceptance: {rate: 0.8}}", "speculation.top_k"),
        ("{method: eagle3, tokens: 3, acceptance: {by: task, of: {code: {rate: 0.8}}}}", "column 'task' of the requests is not stated"),
    ],
)
def test_the_command_ends_with_2_and_one_line(write: Write, capsys: pytest.CaptureFixture[str], section: str, words: str) -> None:
    path = write((ENGINE, f"engine: vllm-v1-async\nspeculation: {section}"), OWN_SCHEDULER)
    assert main(["run", str(path), "--out", str(path.parent / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "exp.yaml:4:" in said, "where it was written, whether loading or the requests find it"
    assert "Traceback" not in said


def test_a_class_of_the_workload_has_its_acceptance(write: Write) -> None:
    """From the experiment to the instances: by SLO class, with the experiment's seed, and the profile's rule of rejected KV."""
    by = "{method: eagle3, tokens: 2, acceptance: {by: slo_class, of: {chat: {rate: 1}}, otherwise: {rate: 0}}}"
    classes = ("  count: 50", "  count: 50\n  slo_classes: [{name: chat, fraction: 0.5}]")
    parts = assemble(loaded(write, by, "sglang", classes))
    table, told = parts.workload.requests, [spec.speculation for spec in parts.instances]
    assert len(told) == 3
    assert told[0] is not None and told[0].rejected_kv == "freed"
    chat = [table.slo_class.names[code] == "chat" for code in table.slo_class.codes]
    assert 0 < sum(chat) < len(chat)
    for speculation_ in told:
        assert speculation_ is not None
        assert [speculation_.accepted(row, 5, 2) for row in range(len(chat))] == [2 * one for one in chat]
    other = assemble(loaded(write, "{method: eagle3, tokens: 2, acceptance: {rate: 0.5}}", "sglang", ("seed: 3", "seed: 4")))
    same = assemble(loaded(write, "{method: eagle3, tokens: 2, acceptance: {rate: 0.5}}", "sglang"))
    seeds = [parts.instances[0].speculation for parts in (other, same)]
    assert [one.seed for one in seeds] == [4, 3]  # type: ignore[union-attr]
