"""Roles and pools are state: an instance may take other requests from now on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import PolicyError
from tests.engine.cluster_world import Orders, placed, serve, spec, work
from tests.engine.unrolled import token_times


def becomes(number: int, role: str) -> Any:
    return lambda cluster: cluster.set_role(number, role)


def pools(*roles: str, **more: Any) -> list[Any]:
    return [replace(spec(f"{role}{k}"), role=role, **more) for k, role in enumerate(roles)]


def prefills(records: Any) -> list[int]:
    return [int(lane.span_prefill_tokens.sum()) for lane in records.lanes]


def test_a_decode_instance_lends_a_hand_to_prefill() -> None:
    load = work([0.0, 0.1, 5.0, 5.1], [16] * 4, [8] * 4)
    before = serve(load, *pools("prefill", "decode", "decode"))
    after = serve(load, *pools("prefill", "decode", "decode"), controllers=(Orders((2.0, becomes(1, "prefill"))),))
    assert prefills(before) == [64, 0, 0]
    assert prefills(after) == [48, 16, 0]  # of the later two one each
    assert placed(after)[2:] == [2, 2]
    assert after.roles == ((2.0, 1, "prefill"),)


def test_what_decodes_there_goes_on() -> None:
    load = work([0.0], [16], [60])
    records = serve(load, *pools("prefill", "decode", "decode"), controllers=(Orders((3.0, becomes(1, "prefill"))),))
    assert placed(records) == [1]
    assert token_times(records) == token_times(serve(load, *pools("prefill", "decode", "decode")))


def test_a_prefill_instance_that_decodes_keeps_what_it_prefills() -> None:
    load = work([0.0, 5.0], [16, 16], [4, 40])
    records = serve(load, *pools("prefill", "prefill", "decode"), controllers=(Orders((0.25, becomes(1, "decode"))),))
    assert prefills(records) == [32, 0, 0]
    assert set(placed(records)) <= {1, 2}


def test_mixed_takes_both() -> None:
    load = work([0.0, 3.0, 3.1], [16] * 3, [8] * 3)
    records = serve(load, *pools("prefill", "decode", "decode"), controllers=(Orders((2.0, becomes(2, "mixed"))),))
    assert prefills(records) == [32, 0, 16]
    assert 2 in placed(records)[1:]


@pytest.mark.parametrize(
    ("roles", "number", "role", "why"),
    [
        (("prefill", "decode"), 1, "prefill", "leaves no decode instance"),
        (("prefill", "decode"), 0, "decode", "leaves no prefill instance"),
        (("prefill", "decode"), 0, "mixed", "leaves no prefill instance"),
        (("mixed", "mixed"), 0, "prefill", "the cluster has no prefill and decode instances"),
        (("prefill", "decode"), 0, "decoder", "roles are mixed, prefill, decode"),
        (("prefill", "decode"), 7, "decode", "there are instances 0 to 1"),
    ],
)
def test_what_could_not_be_served_is_refused(roles: tuple[str, ...], number: int, role: str, why: str) -> None:
    with pytest.raises(PolicyError, match=f"Orders.*{why}.*I10"):
        serve(work([0.0], [16], [60]), *pools(*roles), controllers=(Orders((1.0, becomes(number, role))),))


def test_without_a_link_nothing_can_leave() -> None:
    one, two, three = pools("prefill", "decode", "decode")
    with pytest.raises(PolicyError, match="no link leaves it"):
        serve(work([0.0], [16], [60]), one, replace(two, link=None), three, controllers=(Orders((1.0, becomes(1, "prefill"))),))


@settings(max_examples=40, deadline=None)
@given(
    orders=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 2), st.sampled_from(["prefill", "decode", "mixed"])), max_size=6),
    push=st.booleans(),
    kv_blocks=st.sampled_from([20, 100]),
    outputs=st.lists(st.integers(1, 30), min_size=2, max_size=8),
)
def test_whatever_the_changes_everybody_is_served(
    orders: list[tuple[int, int, str]], push: bool, kv_blocks: int, outputs: list[int]
) -> None:
    load = work([0.4 * k for k in range(len(outputs))], [12] * len(outputs), outputs)
    controller = Orders(*((0.25 * at, becomes(number, role)) for at, number, role in sorted(orders)))
    # Instances 0 and 3 keep their roles, so that every change is allowed.
    records = serve(load, *pools("prefill", "decode", "mixed", "decode", kv_blocks=kv_blocks), controllers=(controller,), push=push)
    assert records.requests.generated_tokens.tolist() == outputs  # checked: I1 to I10, stepped and spanned
    assert records.counters["kv_blocks_in_use_at_end"] == 0
