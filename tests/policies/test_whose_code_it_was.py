"""Whose policy a line of code belongs to, and plans of policies that have no room: by hand, without an instance."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from simserve.contracts import PolicyParams
from simserve.errors import ConfigError
from simserve.policies import registry
from simserve.policies.blame import _incomplete, _owner, as_policy_error, named
from simserve.policies.registry import scheduler_class
from simserve.policies.scheduling.layered_prefill import LayeredPrefill
from simserve.policies.scheduling.left_of_budget import fill
from simserve.policies.scheduling.past_future import OutputHistory, longest_output, peak_tokens

POLICIES = [
    ("theirs.scheduling", "Mine", "scheduling policy 'mine'"),
    ("theirs.scheduling", "Other", "scheduling policy 'other'"),
    ("theirs.order", "", "queue discipline 'of-theirs'"),
    ("elsewhere", "Router", "routing policy 'router'"),
]


@pytest.mark.parametrize(
    ("module", "function", "owner"),
    [
        ("theirs.scheduling", "Mine.plan", ("scheduling policy 'mine'", True)),
        ("theirs.scheduling", "Other.plan", ("scheduling policy 'other'", True)),
        ("theirs.scheduling", "MineToo.plan", ("scheduling policy 'mine'", False)),  # a class beside them: the module's first
        ("theirs.scheduling", "helper", ("scheduling policy 'mine'", False)),
        ("theirs.order", "key", ("queue discipline 'of-theirs'", True)),  # a module is a policy as a whole
        ("theirs.helpers.deep", "f", ("scheduling policy 'mine'", False)),  # another module of the package
        ("elsewhere.helpers", "f", ("routing policy 'router'", False)),
        ("theirs2.scheduling", "Mine.plan", None),
        ("", "f", None),
    ],
)
def test_the_policy_that_runs_a_function(module: str, function: str, owner: tuple[str, bool] | None) -> None:
    assert _owner(module, function, POLICIES) == owner


def test_a_class_that_lacks_what_the_contract_says() -> None:
    kind = type("Mine", (), {"__module__": "theirs.scheduling"})
    beside = type("Helper", (), {"__module__": "theirs.scheduling"})
    for asked in (kind, kind()):
        error = _incomplete(AttributeError("no", name="plan", obj=asked), POLICIES)
        assert str(error) == "scheduling policy 'mine': class Mine lacks 'plan' (see simserve/contracts/policies.py)"
    assert _incomplete(AttributeError("no", name="plan", obj=beside()), POLICIES) is None
    assert _incomplete(AttributeError("no", name="plan", obj=3), POLICIES) is None


def test_what_no_installed_policy_did_passes() -> None:
    for problem in (KeyError("k"), SystemExit(3)):
        assert as_policy_error(problem) is None
        with pytest.raises(type(problem)), named():
            raise problem
    with pytest.raises(KeyboardInterrupt), named():
        raise KeyboardInterrupt


# ---- what may be a policy ----


class Good:
    class Params(PolicyParams):
        pass

    def __init__(self, params: Any) -> None:
        pass

    def choose(self, request: Any, view: Any) -> int:
        return 0


class TakesNothing(Good):
    def __init__(self) -> None:
        pass


class TakesTwo(Good):
    def __init__(self, params: Any, more: Any) -> None:
        pass


class OfAnotherBase(Good):
    class Params(BaseModel):  # type: ignore[assignment]
        pass


class ParamsThatAreNoClass(Good):
    Params = 3  # type: ignore[assignment]


class WithoutSignature(dict):  # type: ignore[type-arg]
    """`inspect.signature` knows none of a dictionary."""

    Params = Good.Params

    def choose(self, request: Any, view: Any) -> int:
        return 0


class AnOrder:
    """A class with all parts of a queue discipline, which is a module."""

    oracle, dynamic = False, False
    key = victim_key = staticmethod(lambda request: 0)


A_ROUTER = ModuleType("a_router")
A_ROUTER.Params, A_ROUTER.choose = Good.Params, Good.choose  # type: ignore[attr-defined]
AN_ORDER = ModuleType("an_order")
AN_ORDER.oracle = AN_ORDER.dynamic = False  # type: ignore[attr-defined]
AN_ORDER.key = AN_ORDER.victim_key = lambda request: 0  # type: ignore[attr-defined]
WITHOUT_KEY = ModuleType("without_key")
WITHOUT_KEY.oracle = WITHOUT_KEY.dynamic = WITHOUT_KEY.victim_key = None  # type: ignore[attr-defined]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a package's entry point give this object."""

    def given(kind: str, found: Any) -> Any:
        point = SimpleNamespace(value="theirs:It", module="theirs", attr="It")
        plugin = SimpleNamespace(words="policy 'it'", point=point, load=lambda: found, package="theirs 1.0")
        monkeypatch.setattr(registry, "_points", lambda asked: {"it": plugin} if asked == kind else {})
        registry._load.cache_clear()
        return registry._load(kind, "it")

    yield given
    registry._load.cache_clear()


def test_a_policy_is_a_class_and_a_queue_discipline_a_module(installed: Any) -> None:
    assert installed("routers", Good) is Good and installed("orders", AN_ORDER) is AN_ORDER
    assert registry.third_party() == [("theirs", "It", "policy 'it'")] and registry.package("orders", "it") == "theirs 1.0"


@pytest.mark.parametrize(
    ("kind", "found", "words"),
    [
        ("routers", type("Lacks", (), {"Params": Good.Params}), "it must be a class with Params, choose"),
        ("routers", A_ROUTER, "it must be a class with Params, choose"),
        ("orders", AnOrder, "it must be a module with key, victim_key, oracle, dynamic"),
        ("orders", WITHOUT_KEY, "it must be a module with key, victim_key, oracle, dynamic"),
        ("routers", TakesNothing, "it must be made by TakesNothing(params)"),
        ("routers", TakesTwo, "it must be made by TakesTwo(params)"),
        ("routers", WithoutSignature, "it must be made by WithoutSignature(params)"),
        ("routers", OfAnotherBase, "its Params must be a subclass of PolicyParams"),
        ("routers", ParamsThatAreNoClass, "its Params must be a subclass of PolicyParams"),
        ("schedulers", type("Router", (Good,), {"plan": Good.choose}), "its Params must be a subclass of SchedulerParams"),
    ],
)
def test_what_is_no_policy_says_what_it_must_be(kind: str, found: Any, words: str, installed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        installed(kind, found)
    assert str(caught.value) == f"policy 'it' cannot be loaded from theirs:It: {words} (simserve/contracts/policies.py)"


# ---- a budget that is used up, or more than that ----


class Plan:
    """A StepPlan of which only the rest of its budget matters."""

    def __init__(self, left: int) -> None:
        self.budget_left, self.told, self.decodes, self.slices = left, [], 1, []  # type: ignore[var-annotated]

    def admit(self, request: Any, reserve_tokens: int = 0) -> bool:
        self.told.append(("admit", request.row))
        return True

    def prefill(self, request: Any, tokens: int, **more: Any) -> None:
        self.told.append((request.row, tokens))
        self.budget_left -= tokens

    def grow(self, request: Any, tokens: int) -> None:
        pass

    def decode(self, group: Any) -> None:
        pass

    def cached_tokens(self, request: Any) -> int:
        return 0

    def hold(self, **more: Any) -> Plan:
        return self


def request(row: int, left: int) -> Any:
    return SimpleNamespace(row=row, prefill_left=left, target_tokens=left, held_blocks=0, computed_tokens=0, is_prefilling=True)


def a_view(plan: Plan, prefilling: list[Any], waiting: list[Any]) -> Any:
    kv = SimpleNamespace(block_tokens=16, free_tokens=1000)
    return SimpleNamespace(
        prefilling=prefilling, waiting=waiting, decoding=None, running=1, swapped=(), kv=kv, new_plan=lambda budget=None: plan
    )


@pytest.mark.parametrize("left", [0, -1, -7])
def test_a_step_full_of_decodes_takes_no_prompt(left: int) -> None:
    """Decodes always ride, also more of them than the budget has tokens: those that came with their KV."""
    for started, new in (([request(1, 5)], []), ([], [request(2, 5)]), ([request(1, 5)], [request(2, 5)])):
        plan = Plan(left)
        fill(plan, a_view(plan, started, new))  # type: ignore[arg-type]
        assert plan.told == []
        for name in ("fastgen", "xy-serve"):
            plan = Plan(left)
            scheduler_class(name)(scheduler_class(name).Params()).plan(a_view(plan, started, new))
            assert plan.told == [], name


@pytest.mark.parametrize(
    ("left", "told"), [(1, [(1, 1)]), (5, [(1, 5)]), (6, [(1, 5), ("admit", 2), (2, 1)]), (10, [(1, 5), ("admit", 2), (2, 5)])]
)
def test_started_prompts_come_first_and_all_of_the_budget_is_used(left: int, told: list[Any]) -> None:
    for name in ("sarathi", "fastgen", "xy-serve"):
        plan = Plan(left)
        params = {"token_budget": left} if name == "xy-serve" else {}
        scheduler_class(name)(scheduler_class(name).Params(**params)).plan(a_view(plan, [request(1, 5)], [request(2, 5), request(3, 5)]))
        assert plan.told[: len(told)] == told and sum(tokens for who, tokens in plan.told if who != "admit") == left, name


# ---- the groups of a wave of layered prefill ----


@pytest.mark.parametrize(
    ("tokens", "rule", "most", "groups"),
    [
        (0, "tokens", 16, 1), (1, "tokens", 16, 1), (512, "tokens", 16, 1), (513, "tokens", 16, 2), (8192, "tokens", 16, 16),
        (8192, "tokens", 12, 12), (99_999, "tokens", 16, 16), (512, "table", 16, 1), (513, "table", 16, 2), (1024, "table", 16, 2),
        (1025, "table", 16, 4), (2048, "table", 16, 4), (2049, "table", 16, 8), (4096, "table", 16, 8), (4097, "table", 16, 16),
        (4096, "table", 12, 6), (2048, "table", 12, 4), (4097, "table", 12, 12), (4096, "table", 4, 4), (1024, "table", 1, 1),
    ],
)  # fmt: skip
def test_layer_groups_of_a_wave(tokens: int, rule: Any, most: int, groups: int) -> None:
    """The paper: 512 tokens a group. The authors' scheduler: 1, 2, 4, 8 groups, 6 where the model has 12, then all."""
    assert LayeredPrefill(LayeredPrefill.Params(group_rule=rule, max_groups=most)).groups(tokens) == groups


# ---- Past-Future's past and future ----


def test_a_future_of_nothing_needs_nothing() -> None:
    assert peak_tokens(np.array([]), np.zeros((3, 0))) == 0.0
    assert peak_tokens(np.array([7.0]), np.array([[0.0]])) == 7.0


def test_the_past_before_anything_has_ended() -> None:
    four = OutputHistory(4)
    four.add(4)
    fractions = np.array([0.0, 1 / 6, 1 / 3, 1.0])
    assert four.quantile(fractions, np.array([0]), np.array([10])).tolist() == pytest.approx([4, 7, 10, 10]), (
        "one of three: two stand for no end"
    )
    one = OutputHistory(1)
    assert one.quantile(np.array([0.5]), np.array([0]), np.array([9])).tolist() == [9], "half of one is none: only the limit is left"
    one.add(4)
    one.add(6)
    assert one.quantile(np.array([0.0, 1.0]), np.array([0]), np.array([9])).tolist() == [6, 9], "the last one alone"
    assert one.quantile(np.array([0.0]), np.array([6]), np.array([9])).tolist() == [9], "after 6 tokens it was not longer"


@pytest.mark.parametrize(("stated", "longest"), [(-1, 90), (0, 90), (1, 1), (50, 50), (90, 90), (200, 90)])
def test_the_longest_answer_is_what_the_client_stated_within_what_is_allowed(stated: int, longest: int) -> None:
    asked: Any = SimpleNamespace(prompt_tokens=10, max_output_tokens=stated)
    assert longest_output(asked, SimpleNamespace(max_model_tokens=100)) == longest  # type: ignore[arg-type]
