"""Would the recorded schedules notice? One rule is changed at a time, as a slip would; some recorded schedule then differs."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.engine.waiting import FcfsQueue
from simserve.policies.ordering import fcfs, priority
from simserve.policies.scheduling import sglang
from simserve.policies.scheduling.vllm_v1 import VllmV1
from simserve.validation.schedules import instance
from simserve.validation.schedules.compare import compare_cases
from tests.conformance.recordings import FOLDER, of_version

OLD, NEW, SGLANG = ("vllm", "0.11.0"), ("vllm", "0.33.0"), ("sglang", "0.5.23")
MOST = 6
"""Workloads of a kind that are tried."""


def key(section: str, **values: Any):
    """Another value of a key of the profile or of the settings; a function makes it of the one before."""

    def change(patch: pytest.MonkeyPatch) -> None:
        experiment_of = instance.experiment_of

        def changed(settings: Any, profile: str) -> dict[str, Any]:
            found = experiment_of(settings, profile)
            one = found["cluster"]["instances"][0].setdefault(section, {})
            for name, value in values.items():
                one[name] = value(one.get(name)) if callable(value) else value
            return found

        patch.setattr(instance, "experiment_of", changed)

    return change


def attribute(owner: Any, name: str, value: Any):
    """Another function in the place of one."""
    return lambda patch: patch.setattr(owner, name, value)


def admits_after_preemption(patch: pytest.MonkeyPatch) -> None:
    admit = VllmV1._admit

    def changed(self: Any, plan: Any, *others: Any) -> Any:
        plan.preempted = False
        return admit(self, plan, *others)

    patch.setattr(VllmV1, "_admit", changed)


def retracts_the_longest(patch: pytest.MonkeyPatch) -> None:
    order = sglang.retraction_order
    patch.setattr(sglang, "retraction_order", lambda *told: list(reversed(list(order(*told)))))


RULES = {
    "the first admitted is preempted": (attribute(fcfs, "victim_key", lambda request: -request.admission), OLD, ("tight",)),
    "the most urgent is preempted": (
        attribute(priority, "victim_key", lambda request: (request.priority, request.row)),
        OLD,
        ("priority-tight",),
    ),
    "the last to come goes first": (attribute(fcfs, "key", lambda request: -request.row), OLD, ("slots",)),
    "the least urgent goes first": (attribute(priority, "key", lambda request: request.priority), OLD, ("priority",)),
    "the preempted wait behind the others": (attribute(FcfsQueue, "requeue", FcfsQueue.push), OLD, ("tight",)),
    "a preemption does not end the admissions": (admits_after_preemption, OLD, ("tight",)),
    "one slot more": (key("scheduler", max_seqs=lambda slots: slots + 1), OLD, ("slots",)),
    "one token more in a step": (key("scheduler", max_num_batched_tokens=lambda tokens: tokens + 1), OLD, ("burst",)),
    "no threshold": (key("scheduler", long_prefill_token_threshold=0), OLD, ("threshold",)),
    "the threshold one less": (key("scheduler", long_prefill_token_threshold=lambda tokens: tokens - 1), OLD, ("threshold",)),
    "one block more": (key("kv", blocks=lambda blocks: blocks + 1), OLD, ("tight",)),
    "no prefix is found": (key("kv", prefix_caching=False), OLD, ("prefix",)),
    "contents are kept as long as there are blocks without": (key("kv", eviction="contents-last"), OLD, ("prefix-tight",)),
    "blocks are forgotten in the order of 0.33": (key("kv", eviction="empty-first"), OLD, ("prefix-tight",)),
    "blocks are forgotten in the order of 0.11": (key("kv", eviction="freed-first"), NEW, ("prefix-tight",)),
    "a victim leaves its step": (key("scheduler", victim_in_step="leaves"), OLD, ("priority-tight",)),
    "a victim stays in its step": (key("scheduler", victim_in_step="stays"), NEW, ("priority-tight",)),
    "a prompt is admitted chunk by chunk": (key("scheduler", reserve_full_prompt=False), NEW, ("tight", "reserve")),
    "a lone prompt is cut at the threshold": (key("scheduler", threshold_alone=True), NEW, ("threshold",)),
    "those that have generated most are retracted": (retracts_the_longest, SGLANG, ("sglang-tight",)),
    "requests are expected to generate half": (
        key("scheduler", schedule_conservativeness=lambda c: (c or 1.0) / 2),
        SGLANG,
        ("sglang-tight",),
    ),
    "chunks are one token shorter": (key("scheduler", chunked_prefill_size=lambda size: size - 1), SGLANG, ("sglang-chunks",)),
    "the rules of 0.5.1": (key("scheduler", rules="0.5.1"), SGLANG, ("sglang-tight", "sglang-chunks-tight")),
    "nothing is found in the tree": (key("kv", prefix_caching=False), SGLANG, ("sglang-prefix",)),
}
"""Rule -> the change, the version that it is tried on, and the kinds that show it."""


@pytest.mark.parametrize("rule", RULES)
def test_a_changed_rule_is_noticed(rule, monkeypatch):
    change, version, kinds = RULES[rule]
    if version == SGLANG and not list(FOLDER.glob("sglang-*")):
        pytest.skip("no schedule of SGLang is recorded")
    cases = [case for _, case in zip(range(MOST * len(kinds)), of_version(*version, kinds), strict=False)]
    assert cases, f"no schedule of {version} is recorded of the kinds {kinds}"
    cases = [case for case in cases if all(one.verdict == "equal" for one in compare_cases([case]))]
    assert cases, f"none of {version} is equal of the kinds {kinds}"
    change(monkeypatch)
    assert any(one.verdict == "different" for case in cases for one in compare_cases([case])), "no recorded schedule notices"
