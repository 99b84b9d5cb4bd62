"""Where a plan's rules draw the line: what is just allowed, and one more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simserve.contracts import PREFILL, VERIFY
from simserve.engine import ClusterSpec, InstanceSpec, simulate
from simserve.engine.kv_groups import KvGroups, KvWindow
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import Failures, LinkSpec
from simserve.errors import ConfigError, PolicyError
from simserve.workload.requests import RequestTable, Workload
from tests.engine.outlaws import Outlaw, serve
from tests.engine.seam_world import Accepts, Seams
from tests.frozen import changeable
from tests.reference.toy_cost import RoundCost

LINK = LinkSpec(bytes_per_s=1.0, latency_s=0.0, kv_bytes_per_token=1.0)


def run(planner: Callable[..., Any], budget: int | None = None, prompt: int = 7, output: int = 5, **options: Any) -> RunRecords:
    table = RequestTable.build(np.zeros(1), np.array([prompt]), np.array([output]))
    options = {"kv_blocks": 10, "block_tokens": 4, **options}
    return simulate(Workload(table), [InstanceSpec("i", Outlaw(planner, budget), options.pop("cost", RoundCost()), **options)], check=True)


def first_step(does: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """A planner that does what it is told with the first request (view, plan, request), and serves in later steps."""

    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        if memory.setdefault("steps", 0) == 0 and view.waiting:
            does(view, plan, next(iter(view.waiting)))
        else:
            if len(view.decoding) or view.swapped:
                plan.decode(view.decoding)
            for request in view.prefilling:
                plan.grow(request, request.target_tokens)
                plan.prefill(request, request.prefill_left)
        memory["steps"] += 1
        return plan

    return planner


def chunk(tokens: int, reserve: int | None = None) -> Callable[..., Any]:
    def does(view: Any, plan: Any, request: Any) -> None:
        assert plan.admit(request, reserve)
        plan.prefill(request, tokens)

    return first_step(does)


def test_a_prompt_is_computed_whole_and_no_token_more() -> None:
    assert run(chunk(7)).requests.generated_tokens.tolist() == [5]
    assert run(chunk(1)).requests.generated_tokens.tolist() == [5]
    with pytest.raises(PolicyError, match="prefills 8 tokens of"):
        run(chunk(8, reserve=12))


@pytest.mark.parametrize(("reserve", "tokens"), [(1, 4), (4, 4), (5, 7)])
def test_a_chunk_needs_the_blocks_of_its_tokens(reserve: int, tokens: int) -> None:
    """Blocks of 4 tokens: one that is begun may be filled."""
    assert run(chunk(tokens, reserve)).requests.generated_tokens.tolist() == [5]
    if tokens < 7:
        with pytest.raises(PolicyError, match=rf"is over memory: .* holds 1 blocks, too few for {tokens + 1} more tokens"):
            run(chunk(tokens + 1, reserve))


@pytest.mark.parametrize("reserve", [0, -1])
def test_a_reservation_holds_a_token_at_least(reserve: int) -> None:
    with pytest.raises(PolicyError, match=rf"reserves {reserve} tokens for"):
        run(chunk(1, reserve))


def test_a_budget_may_be_used_up_and_not_passed() -> None:
    seen: list[int] = []

    def does(view: Any, plan: Any, request: Any) -> None:
        plan.admit(request)
        plan.prefill(request, 5)
        seen.append(plan.budget_left)

    run(first_step(does), budget=7)
    assert set(seen) == {2}
    assert run(chunk(7), budget=7).requests.generated_tokens.tolist() == [5]
    with pytest.raises(PolicyError, match=r"is over budget: 7 tokens of .* with 6 left"):
        run(chunk(7), budget=6)


def test_decodes_ride_beyond_the_budget() -> None:
    """Three requests decode with a budget of two: none is left out, and the plan says how far it is over."""
    left: list[int] = []

    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        for request in list(view.waiting)[:1] if view.now < 3 else ():
            if plan.admit(request):
                plan.prefill(request, 2)
        if not plan.slices:
            plan.decode(view.decoding)
            if plan.decodes:
                left.append(plan.budget_left)
        return plan

    table = RequestTable.build(np.zeros(3), np.full(3, 2), np.full(3, 4))
    records = simulate(Workload(table), [InstanceSpec("i", Outlaw(planner, 2), RoundCost(), 10)], check=True)
    assert records.requests.generated_tokens.tolist() == [4, 4, 4] and set(left) == {-1}


@pytest.mark.parametrize(("steps", "until_s"), [(1, None), (2, None), (None, math.nextafter(0.25, 1.0)), (3, 1e300)])
def test_what_a_plan_may_hold_for(steps: int | None, until_s: float | None) -> None:
    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        if not view.waiting and view.now == 0.25:
            plan.decode(view.decoding)
            return plan.hold(steps=steps, until_s=until_s)
        return serve(view, plan)

    assert run(planner).requests.generated_tokens.tolist() == [5]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": 0}, "for 0 steps"),
        ({"steps": -1}, "for -1 steps"),
        ({"until_s": 0.25}, "until 0.25 s, which is not after 0.25 s"),
        ({"until_s": math.inf}, "until inf s"),
    ],
)
def test_what_a_plan_may_not_hold_for(how: dict[str, Any], words: str) -> None:
    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        return serve(view, plan) if view.waiting else serve(view, plan).hold(**how)

    with pytest.raises(PolicyError, match=words):
        run(planner)


@pytest.mark.parametrize("repeat", [0, -1])
def test_a_step_is_run_once_at_least(repeat: int) -> None:
    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        serve(view, plan)
        if plan.decodes and not plan.slices:
            plan.repeat = repeat
        return plan

    with pytest.raises(PolicyError, match=rf"repeats {repeat} times"):
        run(planner)


def drafts(drafted: int, budget: int | None = None, twice: bool = False, after_decoding: bool = False) -> RunRecords:
    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        running = [*view.verifying, *view.decoding]
        if not running:
            return serve(view, plan)
        if after_decoding:
            plan.decode(view.decoding)
        for request in running * (1 + twice):
            plan.verify(request, drafted)
        return plan

    return run(planner, budget, output=9, cost=Seams(RoundCost()), acceptance=Accepts("all"), prompt=4)


def test_drafted_tokens_and_the_next_one_fit_in_the_budget() -> None:
    assert drafts(1).requests.generated_tokens.tolist() == [9]
    assert drafts(3, budget=4).requests.generated_tokens.tolist() == [9]
    with pytest.raises(PolicyError, match=r"verifies 4 drafted tokens of .* over its budget"):
        drafts(4, budget=4)
    for nothing in (0, -2):
        with pytest.raises(PolicyError, match=rf"verifies {nothing} drafted tokens of [^(]*> \(invariant"):
            drafts(nothing)


def test_a_request_is_verified_once_a_step_and_before_the_group_decodes() -> None:
    with pytest.raises(PolicyError, match="not decoding or already in the step"):
        drafts(2, twice=True)
    with pytest.raises(PolicyError, match="not decoding or already in the step"):
        drafts(2, after_decoding=True)


def test_a_rejected_request_is_gone_and_says_why() -> None:
    def planner(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        for request in list(view.waiting):
            plan.reject(request, "not today")
        return plan

    records = run(planner)
    assert records.requests.status.tolist() == [Status.REJECTED]
    assert records.requests.reasons[records.requests.reason[0]] == "not today"


# -- instances and clusters --------------------------------------------------------------------------------------------------------------


def spec(**options: Any) -> InstanceSpec:
    return InstanceSpec("one", Outlaw(lambda view, plan, memory: serve(view, plan)), RoundCost(), **{"kv_blocks": 8, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({name: 0}, f"{name} must be at least 1, found 0") for name in ("kv_blocks", "block_tokens", "max_seqs", "devices")),
        ({"watermark_blocks": -1}, "watermark_blocks must be in"),
        ({"watermark_blocks": 8}, "watermark_blocks must be in"),
        ({"preemption": "swop"}, "preemption must be"),
        ({"boot_s": -0.1}, "boot_s must be at least 0"),
        ({"boot_s": math.nan}, "boot_s must be at least 0"),
        ({"role": "decoder"}, "unknown role 'decoder'; did you mean 'decode'"),
        ({"role": "prefill"}, "a prefill instance needs a link"),
        ({"prefix_caching": True, "kv_groups": KvGroups(0, (KvWindow(1, 3, 2),))}, "prefix caching needs layers that keep every token"),
    ],
)
def test_instances_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"instance 'one': .*{words}"):
        spec(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"kv_blocks": 1, "block_tokens": 1, "max_seqs": 1, "devices": 1},
        {"watermark_blocks": 0},
        {"watermark_blocks": 7},
        {"preemption": "swap"},
        {"boot_s": 0.0},
        {"role": "decode"},
        {"role": "prefill", "link": LINK},
        {"prefix_caching": True, "kv_groups": KvGroups(1, (KvWindow(1, 3, 2),))},
        {"prefix_caching": False, "kv_groups": KvGroups(0, (KvWindow(1, 3, 2),))},
    ],
)
def test_instances_at_the_edge_of_sense(options: dict[str, Any]) -> None:
    assert spec(**options).name == "one"


def test_the_longest_request_of_an_instance() -> None:
    """What its memory above the watermark holds, or the model's length where that is less."""
    assert spec(block_tokens=4).limit_tokens == 32 and spec(block_tokens=4, watermark_blocks=3).limit_tokens == 20
    assert spec(block_tokens=4, max_model_len=31).limit_tokens == 31 and spec(block_tokens=4, max_model_len=33).limit_tokens == 32


def test_what_is_not_said_of_an_instance() -> None:
    """Defaults that results are quoted with: vLLM's block of 16 tokens; one device; up at once; memory to the last block."""
    one = spec()
    assert (one.block_tokens, one.max_seqs, one.watermark_blocks, one.devices, one.steps_ahead) == (16, 128, 0, 1, 0)
    assert (one.preemption, one.host_kv_blocks, one.role, one.node, one.starts, one.boot_s) == ("recompute", 0, "mixed", 0, True, 0.0)
    assert (one.prefix_caching, one.caches_outputs, one.request_s, one.request_per_prompt_token_s) == (False, True, 0.0, 0.0)
    assert one.policy_name == "Outlaw"
    cluster = ClusterSpec()
    assert (cluster.refresh_s, cluster.push, cluster.layerwise) == (0.0, False, False)
    assert (cluster.migration.last_stage_blocks, cluster.migration.max_stages) == (16, 3)
    assert (Failures().restart_s, Failures().rule, Failures().seed) == (60.0, "resume", 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Failures(mtbf_s=0.0),
        lambda: Failures(mtbf_s=-1.0),
        lambda: Failures(restart_s=-1.0),
        lambda: Failures(times=((-0.5, 0),)),
        lambda: Failures(times=((1.0, 0), (math.nan, 0))),
        lambda: Failures(rule="resme"),
        lambda: ClusterSpec(refresh_s=-1.0),
        lambda: ClusterSpec(layerwise=True),
    ],
)
def test_clusters_that_make_no_sense(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_clusters_at_the_edge_of_sense() -> None:
    Failures(times=((0.0, 0),), mtbf_s=1e-9, restart_s=0.0)
    ClusterSpec(refresh_s=0.0)
    ClusterSpec(layerwise=True, push=True)


@pytest.mark.parametrize(
    ("size_bytes", "message_bytes", "messages"), [(0.0, 10.0, 1), (10.0, 10.0, 1), (10.1, 10.0, 2), (35.0, 10.0, 4), (35.0, None, 1)]
)
def test_messages_of_a_copy(size_bytes: float, message_bytes: float | None, messages: int) -> None:
    assert LinkSpec(1.0, 0.0, 1.0, message_bytes=message_bytes).messages(size_bytes) == messages


def test_bytes_beside_the_tokens_that_all_layers_keep() -> None:
    link = LinkSpec(1.0, 0.0, 1.0, windows=((8, 2.0), (16, 3.0)), state_bytes=100.0)
    assert [link.beside_bytes(tokens) for tokens in (0, 4, 8, 9, 16, 99)] == [100.0, 120.0, 140.0, 143.0, 164.0, 164.0]
    assert LINK.beside_bytes(9) == 0.0


def test_what_is_said_of_instances_and_recorded_does_not_change() -> None:
    assert changeable("simserve.engine") == changeable("simserve.contracts") == set()


class Special(RoundCost):
    """Prices slices of another kind as prompts."""

    slice_kinds = frozenset({PREFILL, "special"})


def test_a_slice_is_of_a_kind_that_the_cost_model_prices() -> None:
    def of_kind(kind: Any) -> Callable[..., Any]:
        def does(view: Any, plan: Any, request: Any) -> None:
            assert plan.admit(request)
            plan.prefill(request, 7, kind=kind)

        return first_step(does)

    assert run(of_kind(PREFILL)).requests.generated_tokens.tolist() == [5]
    assert run(of_kind("special"), cost=Special()).requests.generated_tokens.tolist() == [5]
    with pytest.raises(PolicyError, match=r"plans a slice of kind 'special' for .* does not price \(prefill\)"):
        run(of_kind("special"))
    for cost in (RoundCost(), Special()):
        with pytest.raises(PolicyError, match=r"in a slice of kind 'verify': drafted tokens are planned with verify"):
            run(of_kind(VERIFY), cost=cost)
