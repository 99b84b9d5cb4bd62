"""The invariants of docs/invariants.md on random cases, for every policy, good and bad. `test_sabotage` breaks each rule on purpose."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine.records import Status
from simserve.errors import InvariantError
from simserve.workload.requests import Workload
from tests.engine.bad_policies import LEGAL, Bad, RandomLegal, WrongRepeat
from tests.engine.fixed_cases import RECOMPUTE, ROOMY, SWAP
from tests.engine.invariants import complaints, differences, dump
from tests.engine.strategies import POLICIES, Case, Row, cases
from tests.engine.unrolled import token_times

ROOT = Path(__file__).parents[2]


def test_the_fixed_cases_are_what_they_are_used_for() -> None:
    recompute, swap, roomy = (case.engine() for case in (RECOMPUTE, SWAP, ROOMY))
    assert recompute.requests.preemptions.sum() > 2
    assert recompute.requests.recomputed_tokens.sum() > 10
    assert swap.requests.preemptions.sum() > 2
    assert swap.requests.recomputed_tokens.sum() < recompute.requests.recomputed_tokens.sum()
    assert roomy.requests.preemptions.sum() == 0
    assert max(roomy.lanes[0].span_steps) > 1


@pytest.mark.parametrize("policy", POLICIES)
def test_invariants_hold_for_every_policy(policy: str) -> None:
    """I1-I5, I9 on the records, I7 between the two ways of stepping, on random cases."""

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), max_requests=14))
    def holds(case: Case) -> None:
        fast, slow = case.engine(check=True), case.engine(fast_forward=False)
        assert complaints(fast, case.workload()) == []
        assert complaints(slow, case.workload()) == []
        assert differences(fast, slow) == []

    holds()


@pytest.mark.parametrize("name", LEGAL)
def test_invariants_hold_for_bad_policies(name: str) -> None:
    """Bad service is not a broken rule: I1-I5 and I9 hold. Only the policy that claims a wrong `repeat` gives other records with spans
    off (I7): its claim was its own."""

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(cases(policies=("orca",), max_requests=10))
    def holds(case: Case) -> None:
        runs = [case.engine(LEGAL[name](), fast_forward=fast) for fast in (True, False)]
        for records in runs:
            assert complaints(records, case.workload()) == []
        if name != "wrong-repeat":
            assert differences(*runs) == []

    holds()


def test_check_notices_a_wrong_repeat() -> None:
    """`--check` runs the case with spans on and off, and a policy whose `hold` was not true is found out (I7)."""
    case = dataclasses.replace(ROOMY, rows=tuple(Row(0.03 * i, 6, 30) for i in range(5)))
    assert differences(*(case.engine(WrongRepeat(), fast_forward=fast) for fast in (True, False)))
    with pytest.raises(InvariantError, match="I7"):
        case.engine(WrongRepeat(), check=True)


# -- I6, I8: comparisons of runs ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_same_case_same_bytes(case: Case) -> None:
    """I6."""
    assert dump(case.engine()) == dump(case.engine())


def test_same_bytes_in_another_process() -> None:
    """I6: with other hash seeds, where a set or a dict of objects would come in another order."""
    code = (
        "import hashlib\nfrom tests.engine.fixed_cases import *\nfrom tests.engine.invariants import dump\n"
        "runs = [c.engine() for c in (RECOMPUTE, SWAP, ROOMY, CLOSED, CHAIN)]\n"
        "print(hashlib.sha256(b''.join(dump(r) for r in runs)).hexdigest())"
    )
    seen = set()
    for seed in ("0", "1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1


def test_a_policy_with_true_dice_is_noticed() -> None:
    """I6 seen to fail: two runs of a policy that draws from the operating system's entropy are not the same bytes."""

    def dice() -> RandomLegal:
        return RandomLegal(int.from_bytes(os.urandom(8), "big"))

    assert dump(ROOMY.engine(RandomLegal(1))) == dump(ROOMY.engine(RandomLegal(1)))
    assert dump(ROOMY.engine(dice())) != dump(ROOMY.engine(dice()))


class Spy(Bad):
    """Serves plainly and writes down everything public it can see of every request, at every plan."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, Any]] = []

    def choose(self, view: Any, plan: Any) -> Any:
        for r in [*view.waiting, *view.prefilling, *view.decoding, *view.swapped]:
            public = [name for name in dir(r) if not name.startswith("_") and not callable(getattr(r, name, None))]
            self.seen.append((view.now, [(name, repr(getattr(r, name, None))) for name in public]))
        if len(view.decoding) or view.swapped:
            plan.decode(view.decoding)
        for r in list(view.waiting):
            if not plan.admit(r):
                break
            plan.prefill(r, r.prefill_left)
        return plan


class OracleSpy(Spy):
    oracle = True


def _told(spy: type[Spy]) -> set[str]:
    """Names of what tells two workloads apart that differ only in output lengths, before the first of these is reached."""
    short = dataclasses.replace(ROOMY, rows=tuple(Row(0.0, 5 + i, 9) for i in range(5)))
    long = dataclasses.replace(ROOMY, rows=tuple(Row(0.0, 5 + i, 9 + 4 * i + 3) for i in range(5)))
    spies = spy(), spy()
    until = float(short.engine(spies[0]).requests.finish_s.min())
    long.engine(spies[1])
    views = [[entry for entry in spy.seen if entry[0] < until] for spy in spies]
    assert len(views[0]) == len(views[1]) > 20
    differing = {p[0] for a, b in zip(*views, strict=True) for p, q in zip(a[1], b[1], strict=True) if p != q}
    return differing | {"the times"} if [a[0] for a in views[0]] != [b[0] for b in views[1]] else differing


def test_a_policy_cannot_see_output_lengths() -> None:
    """I8: nothing public of a request depends on tokens that it has not generated yet; to a declared oracle its length is told."""
    assert _told(Spy) == set()
    assert "output_tokens" in _told(OracleSpy)


def test_only_an_oracle_may_ask_for_the_output_length() -> None:
    """I8: the attribute is not there for others."""

    class Asks(Spy):
        def choose(self, view: Any, plan: Any) -> Any:
            self.asked = [getattr(r, "output_tokens", None) for r in view.waiting]
            return super().choose(view, plan)

    class Oracle(Asks):
        oracle = True

    for cls, expected in ((Asks, [None] * 2), (Oracle, [9, 4])):
        policy = cls()
        case = dataclasses.replace(ROOMY, rows=(Row(0.0, 5, 9), Row(0.0, 5, 4)))
        lengths: list[Any] = []
        original = policy.choose

        def choose(view: Any, plan: Any, original: Any = original, policy: Any = policy, lengths: list[Any] = lengths) -> Any:
            result = original(view, plan)
            lengths.extend(policy.asked)
            return result

        policy.choose = choose  # type: ignore[method-assign]
        case.engine(policy)
        assert lengths == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases(), st.floats(0.001, 3.0))
def test_a_run_cut_short_is_the_beginning_of_the_whole_run(case: Case, until_s: float) -> None:
    """I4 again: nothing that happens later can have changed what happened before."""
    whole, cut = case.engine(), case.engine(until_s=until_s)
    done = whole.requests.finish_s < until_s
    for name in ("released_s", "scheduled_s", "first_token_s", "finish_s", "status", "generated_tokens", "recomputed_tokens"):
        a, b = getattr(whole.requests, name), getattr(cut.requests, name)
        assert np.array_equal(a[done], b[done], equal_nan=True), name
    assert (cut.requests.status[~(whole.requests.finish_s <= until_s)] == Status.UNFINISHED).all()
    for a_times, b_times in zip(token_times(whole), token_times(cut), strict=True):
        assert [t for t in a_times if t < until_s] == [t for t in b_times if t < until_s]
        assert all(t <= until_s for t in b_times)


def test_invariants_of_nothing() -> None:
    """An empty workload ends at once and breaks no rule."""
    empty = dataclasses.replace(ROOMY, rows=())
    assert complaints(empty.engine(), Workload(empty.workload().requests)) == []
