"""The driver of vLLM: the clock that its engine core lives in, and what is said where an engine cannot be driven."""

from __future__ import annotations

import sys

import pytest

from simserve.validation.schedules.engines import vllm, vllm_ascend, vllm_configuration, vllm_executor
from simserve.validation.schedules.refusals import EngineUnavailable, Unsupported
from simserve.validation.schedules.workload import ScheduleRequest
from tests.conformance import fake_vllm
from tests.conformance.small import workload


@pytest.fixture
def installed(monkeypatch):
    """A vLLM 0.11.0 that is not one; its modules may be changed."""
    there = fake_vllm.modules()

    def imported(name):
        if name not in there:
            raise EngineUnavailable(f"{name} cannot be imported: ModuleNotFoundError: no module named '{name}'")
        return there[name]

    for module in (vllm, vllm_ascend, vllm_configuration, vllm_executor):
        monkeypatch.setattr(module, "imported", imported)
    for module in (vllm, vllm_ascend, vllm_configuration):
        monkeypatch.setattr(module, "installed_version", lambda name: "0.11.0")
    for cached in (vllm_configuration._as_on_a_gpu, vllm_configuration._model):
        cached.cache_clear()
    yield there
    for cached in (vllm_configuration._as_on_a_gpu, vllm_configuration._model):
        cached.cache_clear()


def test_the_clock(installed):
    given = ScheduleRequest(0.013, 20, 3), ScheduleRequest(0.5, 7, 2, max_tokens=9), ScheduleRequest(0.5, 4, 2)
    made = vllm.drive(workload(*given, kv_blocks=600))
    assert (made.engine, made.version) == ("vllm", "0.11.0")
    first, second, third = made.requests
    assert (first.first_token_s, first.finish_s) == (0.023, 0.043)  # an idle engine starts when a request comes
    assert first.runs == ((0, 1, 20), (1, 2, 1)) and first.admissions == ((0, 0),)
    assert (second.first_token_s, second.finish_s, second.ended) == (0.51, 0.52, "finished")  # ends of its own accord
    assert (third.first_token_s, third.finish_s) == (0.53, 0.54)
    assert made.steps == ((0.013, 0.01, 3), (0.5, 0.01, 4)) and made.free_blocks == ((5, 7),)


def test_clients_that_give_up(installed):
    given = (
        ScheduleRequest(0.0, 20, 30, abort_s=0.025),
        ScheduleRequest(0.0, 7, 2, abort_s=0.001),
        ScheduleRequest(0.011, 4, 1, abort_s=0.9),
    )
    first, second, third = vllm.drive(workload(*given, kv_blocks=600)).requests
    assert (first.ended, first.first_token_s, first.finish_s) == ("aborted", 0.01, None)
    assert (second.ended, second.first_token_s, second.runs) == ("aborted", None, ())
    assert (third.ended, third.finish_s) == ("finished", 0.04)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"watermark": 0.1}, "watermark: vLLM 0.11.0 has no 'watermark'"),
        ({"max_queued": 3}, "max_queued: vLLM 0.11.0 has no 'max_num_queued_reqs'"),
        ({"async_scheduling": True}, "async_scheduling: vLLM 0.11.0 has no asynchronous scheduling"),
        ({"order": "priority"}, "order: vLLM 0.11.0's V1 scheduler has no priorities"),
        ({"chunked": False}, "chunked: vLLM 0.11.0's V1 scheduler always cuts prompts"),
        ({"order": "lpm"}, "order: vLLM has fcfs and priority, not 'lpm'"),
        ({"chunked_prefill_size": 512}, "chunked_prefill_size: vLLM has no such setting"),
    ],
)
def test_rules_that_a_version_does_not_have(installed, setting, said):
    with pytest.raises(Unsupported) as refusal:
        vllm.drive(workload((0.0, 20, 3), **setting))
    assert str(refusal.value) == said and refusal.value.setting in setting


def test_settings_that_it_does_not_start_with(installed):
    def refuse(**given):
        if given["cache_config"].num_gpu_blocks_override < 90:
            raise ValueError("To serve at least one request, more memory is needed. Try another model.\nOr another GPU.")
        return fake_vllm.SimpleNamespace(**given)

    installed["vllm.config"].VllmConfig = refuse
    with pytest.raises(
        Unsupported, match=r"settings: vLLM 0.11.0 does not start with them: To serve at least one request, more memory is needed$"
    ):
        vllm.drive(workload((0.0, 20, 3), kv_blocks=50))
    assert vllm.drive(workload((0.0, 20, 3), kv_blocks=90)).requests[0].ended == "finished"


def test_an_engine_that_is_not_installed():
    if "vllm" in sys.modules:
        pytest.skip("vllm is installed here")
    with pytest.raises(EngineUnavailable, match=r"^vllm is not installed where this Python runs$"):
        vllm.version()
    with pytest.raises(EngineUnavailable, match=r"^vllm-ascend is not installed where this Python runs$"):
        vllm_ascend.version()


def test_an_engine_that_does_not_import(installed):
    del installed["vllm.v1.engine.core"]
    with pytest.raises(EngineUnavailable, match=r"^vllm\.v1\.engine\.core cannot be imported: ModuleNotFoundError"):
        vllm.drive(workload((0.0, 20, 3)))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda there: delattr(fake_vllm.EngineCore, "step"), "AttributeError: 'EngineCore' object has no attribute 'step'"),
        (lambda there: delattr(fake_vllm.Scheduler, "schedule"), "AttributeError: 'Scheduler' object has no attribute 'schedule'"),
        (lambda there: delattr(there["vllm.config"], "VllmConfig"), "has no attribute 'VllmConfig'"),
        (lambda there: setattr(there["vllm.v1.engine.core"], "EngineCore", dict), "ValueError|TypeError"),
    ],
)
def test_an_engine_with_another_interface(installed, broken, said, monkeypatch):
    for name in ("EngineCore", "Scheduler"):
        copy = type(name, (), dict(vars(getattr(fake_vllm, name))))
        monkeypatch.setattr(fake_vllm, name, copy)
    installed["vllm.v1.engine.core"].EngineCore = fake_vllm.EngineCore
    broken(installed)
    with pytest.raises(EngineUnavailable, match=f"^vLLM 0.11.0: its interface is not one that this driver knows: .*({said}).* line \\d+"):
        vllm.drive(workload((0.0, 20, 3)))


def test_an_engine_in_a_circle(installed, monkeypatch):
    monkeypatch.setattr(vllm, "MOST_PLANS", 10)
    with pytest.raises(Unsupported, match=r"^workload: vLLM 0\.11\.0 goes round without end"):
        vllm.drive(workload((0.0, 20, 300)))


def test_an_engine_that_fails_itself(installed, monkeypatch):
    step = fake_vllm.EngineCore.step

    def failing(core):
        if len(core.scheduler.requests) > 2:
            raise AssertionError("no more than two")
        return step(core)

    monkeypatch.setattr(fake_vllm.EngineCore, "step", failing)
    with pytest.raises(Unsupported, match=r"^workload: vLLM 0\.11\.0 fails itself: AssertionError: no more than two, .* line \d+$"):
        vllm.drive(workload(*[(0.0, 20, 3)] * 3, kv_blocks=600))
    assert vllm.drive(workload(*[(0.0, 20, 3)] * 2, kv_blocks=600)).requests[1].finish_s == 0.06


def test_ascend_beside_another_vllm(installed, monkeypatch):
    monkeypatch.setattr(vllm, "installed_version", lambda name: "0.19.1")
    with pytest.raises(EngineUnavailable, match=r"^vLLM-Ascend 0\.11\.0 needs the vLLM of the same version beside it, not 0\.19\.1$"):
        vllm_ascend.drive(workload((0.0, 20, 3)))


def test_ascend_is_vllm_unless_prompts_are_whole(installed, monkeypatch):
    monkeypatch.setattr(vllm_configuration, "_may_take_whole_prompts", lambda: True)
    made = vllm_ascend.drive(workload((0.0, 20, 3), kv_blocks=600))
    assert (made.engine, made.version, made.requests[0].finish_s) == ("vllm-ascend", "0.11.0", 0.03)
    with pytest.raises(EngineUnavailable, match=r"^vllm_ascend\.core\.schedule_config cannot be imported"):
        vllm_ascend.drive(workload((0.0, 20, 3), chunked=False))
