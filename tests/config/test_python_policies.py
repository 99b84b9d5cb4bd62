"""Policy objects given from Python run like policies by name, one copy an instance, and every result says that there was one."""

from __future__ import annotations

import pytest

import simserve
from simserve.contracts import Field, PolicyParams, Router, Scheduler, SchedulerParams
from simserve.errors import ConfigError
from simserve.policies.routing.splitwise import SplitwisePrompts
from simserve.policies.scheduling.layered_prefill import LayeredPrefill
from simserve.policies.scheduling.vllm_v1 import VllmV1
from simserve.report.result import Result

SMALL = {
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "workload": {
        "count": 60,
        "arrivals": {"kind": "poisson", "rate_per_s": 20},
        "lengths": {"prompt": {"kind": "uniform", "low_tokens": 20, "high_tokens": 800}, "output": {"kind": "fixed", "tokens": 30}},
    },
}
THREE = {**SMALL, "cluster": {"instances": [{"count": 3}]}}
POOLS = {**SMALL, "cluster": {"instances": [{"role": "prefill"}, {"role": "decode"}]}}


class ShortFirst(Scheduler):
    """Of the waiting prompts the shortest goes first, whole."""

    class Params(SchedulerParams):
        max_seqs: int = Field(64, gt=0, description="Most requests that run at once.")

    def __init__(self, params=None):
        super().__init__(params)
        self.plans = 0

    def plan(self, view):
        self.plans += 1
        plan = view.new_plan()
        plan.decode(view.decoding)
        for request in sorted(view.waiting, key=lambda request: request.prompt_tokens):
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        return plan.hold(ignore_arrivals=False)


class Last(Router):
    """Everything to the last instance."""

    def choose(self, request, view):
        return view.open[-1]


def latency(result):
    return result.summary_dict()["latency"]


def test_an_object_plans_instead_of_the_named_policy():
    mine = ShortFirst(ShortFirst.Params(max_seqs=4))
    result = simserve.run(SMALL, scheduler=mine, check=True)
    assert mine.plans == 0, "the object itself stays as it was given"
    info = result.records.instances[0]
    assert (info.policy, info.max_seqs, info.name) == ("ShortFirst", 4, "ShortFirst-0")
    assert latency(result) != latency(simserve.run(SMALL))
    assert latency(result) == latency(simserve.run(SMALL, scheduler=mine))


def test_an_object_of_a_built_in_class_does_what_its_name_does():
    by_name = simserve.load(SMALL)
    as_object = simserve.run(by_name, scheduler=VllmV1(by_name.groups[0].params))
    assert latency(as_object) == latency(simserve.run(by_name))
    assert as_object.records.instances[0].kv_blocks == simserve.run(by_name).records.instances[0].kv_blocks


def test_its_parameters_size_the_memory():
    """Activations are charged for the object's own largest step."""

    class Wide(ShortFirst):
        class Params(SchedulerParams):
            def step_tokens(self, longest_tokens):
                return 65_536

    blocks = [simserve.run(SMALL, scheduler=one).records.instances[0].kv_blocks for one in (ShortFirst, Wide)]
    assert blocks[1] < blocks[0]


def test_each_instance_has_its_own():
    from simserve.config.assemble import assemble
    from simserve.config.python_names import Arguments
    from simserve.config.python_policies import checked

    experiment = simserve.load(THREE)
    parts = assemble(experiment, checked(experiment, Arguments(ShortFirst, Last)))
    assert len({id(spec.scheduler) for spec in parts.instances}) == 3
    result = simserve.run(THREE, scheduler=ShortFirst, router=Last(), check=True)
    assert set(result.requests.instance) == {"ShortFirst-2"}


def test_groups_by_number_and_by_role():
    result = simserve.run(POOLS, scheduler={"prefill": ShortFirst})
    assert [info.policy for info in result.records.instances] == ["ShortFirst", "vllm-v1"]
    result = simserve.run(POOLS, scheduler={1: ShortFirst, "prefill": VllmV1}, decode_router=Last)
    assert [info.policy for info in result.records.instances] == ["VllmV1", "ShortFirst"]
    assert result.experiment["cluster"]["router"]["decode_policy"].endswith(":Last")


def test_the_result_says_so_and_its_yaml_does_not_pretend(tmp_path):
    mine = ShortFirst(ShortFirst.Params(max_seqs=4))
    result = simserve.run(SMALL, scheduler=mine, router=Last)
    (first, second) = result.summary_dict()["policies_from_python"]
    assert first == {"key": "cluster.instances.0.scheduler", "class": "ShortFirst", "module": __name__, "parameters": {"max_seqs": 4}}
    assert (second["key"], second["class"]) == ("cluster.router", "Last")
    assert "YAML alone does not reproduce" in result.summary_dict()["warnings"][0]
    out = result.write(tmp_path / "out", plots=False)
    assert "does not reproduce this run" in (out / "report.html").read_text().replace("&#39;", "'")
    assert Result.read(out).summary_dict()["policies_from_python"] == [first, second]
    assert "policies_from_python" not in simserve.run(SMALL).summary_dict()
    resolved = out / "experiment.resolved.yaml"
    with pytest.raises(ConfigError, match=r"(?s)given an object of .*ShortFirst from Python.*scheduler=.*:Last.*router="):
        simserve.load(resolved)
    with pytest.raises(ConfigError, match=r"Last from Python") as only:
        simserve.run(resolved, scheduler=mine)
    assert "ShortFirst" not in str(only.value)
    again = simserve.run(resolved, scheduler=mine, router=Last)
    assert latency(again) == latency(result)
    assert again.experiment == result.experiment


def test_bands_are_drawn_with_the_object():
    narrow = ShortFirst(ShortFirst.Params(max_seqs=1))
    low, high = simserve.run(SMALL, scheduler=narrow, intervals=8).summary_dict()["intervals"]["latency"]["all"]["ttft_s"]["mean"]
    one = simserve.run(SMALL, scheduler=narrow).summary_dict()["latency"]["all"]["ttft_s"]["mean"]
    assert low < 1.5 * one and high > 0.7 * one
    assert low > 3 * simserve.run(SMALL).summary_dict()["latency"]["all"]["ttft_s"]["mean"]


class NoPlan:
    params = SchedulerParams()


class NoParams:
    def plan(self, view):
        return view.new_plan()


class Demanding(Router):
    class Params(PolicyParams):
        width: int

    def choose(self, request, view):
        return None


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (SMALL, {"scheduler": NoPlan()}, r"scheduler=NoPlan: it lacks a method plan; derive its class from simserve.contracts.Scheduler"),
        (SMALL, {"scheduler": NoParams()}, r"NoParams: it lacks params of simserve.contracts.SchedulerParams"),
        (SMALL, {"scheduler": NoParams}, r"NoParams: it lacks Params of simserve.contracts.SchedulerParams"),
        (SMALL, {"scheduler": "vllm-v1"}, r"scheduler=str: it lacks a method plan and params"),
        (SMALL, {"scheduler": Last()}, r"scheduler=Last: it lacks a method plan"),
        (SMALL, {"router": ShortFirst()}, r"router=ShortFirst: it lacks a method choose"),
        (SMALL, {"router": Demanding}, r"router=Demanding: cannot be made with its default parameters.*width"),
        (SMALL, {"router": SplitwisePrompts}, r"router=SplitwisePrompts: it works on a prefill and a decode pool"),
        (SMALL, {"scheduler": {1: ShortFirst}}, r"scheduler=\{1: \.\.\.\}: the experiment has instance groups 0 to 0 \(roles: mixed\)"),
        (
            {**SMALL, "cluster": {"instances": [{"parallel": {"pp": 2}}]}},
            {"scheduler": LayeredPrefill},
            r"LayeredPrefill: it works on one pipeline stage only; instance group 0 has pp 2",
        ),
    ],
)
def test_what_does_not_fit_is_named(source, given, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        simserve.run(source, **given)


def test_what_cannot_be_copied_is_named():
    class Locked(ShortFirst):
        def __init__(self, params=None):
            super().__init__(params)
            import threading

            self.lock = threading.Lock()

    with pytest.raises(ConfigError, match="scheduler Locked: each instance needs its own, and this one cannot be copied"):
        simserve.run(SMALL, scheduler=Locked())
