"""What was verified is recorded by version, and shown with profiles and results."""

from __future__ import annotations

import json

import pytest

from simserve import api
from simserve.cli import main
from simserve.config import verified_schedules
from simserve.config.experiment import load
from simserve.config.verified_schedules import VerifiedSchedules
from simserve.errors import ConfigError
from simserve.files import messages, yaml_text
from simserve.report.rows import stack
from simserve.validation.schedules.compare import compare_cases
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase
from simserve.validation.schedules.verified import write
from tests.conformance.small import V1, random_workload, recorded

EXPERIMENT = {
    "name": "short",
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "engine": V1,
    "workload": {
        "arrivals": {"kind": "constant", "rate_per_s": 4},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 50}, "output": {"kind": "fixed", "tokens": 5}},
        "count": 4,
    },
}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Three workloads: equal, equal on one version of two, and one that a version has no rule for."""
    first, second = random_workload(1, kind="tight"), random_workload(2, kind="slots")
    other = recorded(random_workload(2, kind="slots", max_num_seqs=3), "0.8.5")
    cases = [
        ScheduleCase(first, (recorded(first), recorded(first, "0.8.5"))),
        ScheduleCase(second, (recorded(second), other)),
        ScheduleCase(random_workload(3, kind="window"), not_driven=(NotDriven("vllm", "0.8.5", "kv_windows: no such rule"),)),
    ]
    path = tmp_path / "verified.yaml"
    write(path, compare_cases(cases))
    monkeypatch.setattr(verified_schedules, "FILE", path)
    verified_schedules.everything.cache_clear()
    yield path
    verified_schedules.everything.cache_clear()


def test_the_record(record):
    older, newer = verified_schedules.verified(V1)
    assert (older.engine, older.version, newer.version) == ("vLLM", "0.8.5", "0.11.0")
    assert (older.equal, older.workloads, older.not_equal) == (1, 2, ["slots"])
    assert (newer.equal, newer.workloads, newer.not_equal) == (2, 2, [])
    assert older.kinds["window"].not_driven == 1 and older.kinds["window"].why == "kv_windows: no such rule"
    assert older.kinds["slots"].first_difference.startswith("slots-2 differs in step ")
    assert verified_schedules.verified("orca") == []


def test_results_say_it(record):
    result = api.run(load(EXPERIMENT), progress=False)
    summary = result.summary_dict()
    assert [one["version"] for one in summary["simulated"][0]["cost"]["schedule"]["versions"]] == ["0.8.5", "0.11.0"]
    line = "schedule verified: vLLM 0.8.5, 1 of 2 workloads (not equal: slots); 0.11.0, 2 of 2 workloads"
    assert line in stack(summary)


def test_results_under_another_policy_or_profile_do_not(record, tmp_path):
    other = {"cluster": {"instances": [{"scheduler": {"policy": "sarathi"}}]}}
    assert "schedule not verified: policy sarathi is not the engine's own" in stack(
        api.run(load(EXPERIMENT | other), progress=False).summary_dict()
    )
    assert "schedule not verified" in stack(api.run(load(EXPERIMENT | {"engine": "sglang"}), progress=False).summary_dict())
    from simserve.config import engine_profile

    own = tmp_path / "own.yaml"
    own.write_text((engine_profile.FOLDER / f"{V1}.yaml").read_text())  # says the name of a bundled one, and may say anything else
    assert "schedule not verified" in stack(api.run(load(EXPERIMENT | {"engine": str(own)}), progress=False).summary_dict())


def test_engines_say_it(record, capsys):
    assert main(["engines", V1]) == 0
    shown = capsys.readouterr().out
    assert "vLLM 0.8.5: 1 of 2 workloads equal" in shown and "vLLM 0.11.0: 2 of 2 workloads equal" in shown
    assert "slots: 0 of 1 equal; slots-2 differs in step" in shown and "window: 1 not compared: kv_windows: no such rule" in shown
    assert main(["engines", "orca"]) == 0
    assert "Schedules: not verified against the engine's own scheduler" in capsys.readouterr().out
    assert main(["engines", "--json"]) == 0
    listed = {one["name"]: one["verified_schedules"] for one in json.loads(capsys.readouterr().out)}
    assert [one["version"] for one in listed[V1]] == ["0.8.5", "0.11.0"] and listed["orca"] == []
    assert main(["engines", V1, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["verified_schedules"]) == 2


def test_the_bundled_record_is_read():
    verified_schedules.everything.cache_clear()
    known = verified_schedules.everything()
    assert all(one.kinds for one in known.versions)


def test_a_record_that_is_wrong_is_an_error():
    with pytest.raises(ConfigError, match="equals"):
        wrong = {"versions": [{"engine": "vLLM", "version": "1", "profile": V1, "kinds": {"tight": {"equals": 1}}}]}
        messages.checked(VerifiedSchedules, yaml_text.plain(wrong, "record"), "record")


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"scheduler": {"policy": "vllm-v1", "victim_in_step": "leaves"}}, "scheduler.victim_in_step"),
        ({"kv": {"eviction": "radix"}}, "kv.eviction"),
        ({"order": "shortest-job"}, "order"),
        ({"parallel": {"pp": 2}}, "parallel.pp"),
        ({"speculation": {"method": "ngram", "tokens": 2, "acceptance": {"rate": 0.5}}}, "speculation"),
    ],
)
def test_settings_that_were_not_compared_are_named(changed, key, record):
    result = api.run(load(EXPERIMENT | {"cluster": {"instances": [changed]}}), progress=False)
    assert result.records.instances[0].cost["schedule"]["not_as_compared"] == [key]
    assert f"schedule not verified with {key}; without: vLLM 0.8.5, 1 of 2 workloads" in "\n".join(stack(result.summary_dict()))


def test_settings_that_workloads_vary_are_not_named(record):
    sizes = {"scheduler": {"policy": "vllm-v1", "max_seqs": 3, "long_prefill_token_threshold": 20}, "kv": {"blocks": 300, "watermark": 0.1}}
    result = api.run(load(EXPERIMENT | {"cluster": {"instances": [sizes]}}), progress=False)
    assert "not_as_compared" not in result.records.instances[0].cost["schedule"]
