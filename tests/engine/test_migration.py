"""Live migration: the pause, the reasons to give up, who may move where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simserve.contracts import PolicyParams
from simserve.engine import InstanceSpec, simulate
from simserve.engine.control import ClusterControl
from simserve.engine.records import Status
from simserve.engine.spec import MigrationSpec
from simserve.errors import PolicyError
from simserve.workload.requests import Workload
from tests.engine.cluster_world import LINK, Orders, Says, moves, one_long, placed, routed, serve, spec, work
from tests.engine.unrolled import token_times


def test_a_request_moves_while_it_decodes_and_pauses_for_one_short_copy() -> None:
    orders = Orders((4.0, moves(0, 0, 1)))
    stay = serve(one_long(), spec(), spec())
    records = serve(one_long(), spec(), spec(), controllers=(orders,), migration=MigrationSpec(last_stage_blocks=2))
    assert records.moves is not None
    assert records.moves.outcomes[records.moves.outcome[0]] == ""
    assert records.moves.stages[0] >= 2
    gaps, plain = np.diff(token_times(records)[0]), np.diff(token_times(stay)[0])
    pause = records.moves.landed_s[0] - records.moves.stop_s[0]
    assert (gaps > plain.max() + 1e-9).sum() == 1
    # The last copy takes its latency and at most 2 blocks and the tokens of a step; the next step follows at once.
    assert 0.05 < pause <= 0.05 + (2 * 4 + 1) * 100 / 10_000 + 1e-9
    assert gaps.max() <= pause + plain.max() + 1e-9
    assert placed(records) == [1] and records.requests.recomputed_tokens[0] == 0
    assert records.requests.generated_tokens[0] == 60


def test_the_pause_does_not_grow_with_the_context() -> None:
    pauses = []
    for prompt in (40, 160, 320):
        load = work([0.0], [prompt], [60])
        begins = float(serve(load, spec()).requests.first_token_s[0])
        orders = Orders((begins + 0.1, moves(0, 0, 1)))
        records = serve(load, spec(), spec(), controllers=(orders,), migration=MigrationSpec(last_stage_blocks=3, max_stages=9))
        assert records.moves is not None and np.isfinite(records.moves.landed_s).all() and len(records.moves.stop_s) == 1
        pauses.append(records.moves.landed_s[0] - records.moves.stop_s[0])
    # Between none and 3 blocks and the token of a step, whatever the context.
    assert max(pauses) - min(pauses) <= (3 * 4 + 1) * 100 / 10_000 + 1e-9


def test_migrations_are_given_up_for_the_stated_reason() -> None:
    def outcome(load: Workload, *specs: InstanceSpec, at_s: float = 4.0, **cluster: Any) -> str:
        records = serve(load, *specs, controllers=(Orders((at_s, moves(0, 0, 1))),), **cluster)
        assert records.moves is not None and (records.requests.status == Status.COMPLETED).all()
        return records.moves.outcomes[records.moves.outcome[0]]

    full = work([0.0, 0.0], [40, 380], [60, 12])
    fixed = Says(lambda r, v: r.row)
    assert outcome(full, spec(), spec(), router=fixed) == "the destination is full"
    slow = replace(LINK, bytes_per_s=300.0)
    assert outcome(one_long(), spec(link=slow), spec(), migration=MigrationSpec(last_stage_blocks=1)) == "the request ended"
    crawl = replace(LINK, bytes_per_s=800.0)
    assert outcome(one_long(300), spec(link=crawl), spec(), migration=MigrationSpec(last_stage_blocks=1)) == "the copy did not catch up"
    # Two requests grow until memory is short; the younger one, which is being copied, has to give its up.
    tight = work([0.0, 0.1], [40, 40], [90, 90])
    records = serve(
        tight,
        spec(link=slow, kv_blocks=34),
        spec(kv_blocks=34),
        router=Says(0),
        controllers=(Orders((4.0, moves(1, 0, 1))),),
        migration=MigrationSpec(last_stage_blocks=1),
    )
    assert records.moves is not None
    scarce = records.moves.outcomes[records.moves.outcome[0]]
    assert scarce == "the request was preempted"


def test_what_cannot_move_says_why() -> None:
    orders = Orders((4.0, moves(0, 0, 1)), (4.0, moves(0, 0, 1)), (4.0, moves(0, 1, 0)))
    simulate(one_long(), [spec(), spec()], routed(controllers=(orders,)))
    assert orders.answers == ["", "it is on its way already", "it does not decode there"]
    # Where requests may move, none is let in that would not fit everywhere: this one is cut to 90 tokens.
    small = Orders((4.0, moves(0, 0, 1)))
    records = simulate(one_long(), [spec(), spec(max_model_len=90)], routed(controllers=(small,)))
    assert small.answers == [""] and records.requests.generated_tokens[0] == 50
    for wrong, message in ((moves(0, 0, 0), "to itself"), (moves(0, 0, 5), "names instance 5")):
        with pytest.raises(PolicyError, match=message):
            serve(one_long(), spec(), spec(), controllers=(Orders((1.0, wrong)),))


def test_a_request_that_moves_to_and_fro_for_ever_still_ends() -> None:
    class Restless:
        Params = PolicyParams
        idle = False
        interval_s = 0.1

        def act(self, cluster: ClusterControl) -> None:
            for source in (0, 1):
                for request in cluster.decoding(source):
                    cluster.migrate(request.row, source, 1 - source)

    records = serve(work([0.0, 0.5], [20, 30], [80, 80]), spec(), spec(), controllers=(Restless(),))
    assert records.moves is not None and (records.moves.outcome == 0).sum() > 4
    assert (records.requests.status == Status.COMPLETED).all()


def test_controllers_stay_awake_through_a_long_span_of_one_request() -> None:
    # 400 steps of 0.25 s with nothing else to come: the order after 90 s is still carried out.
    orders = Orders((90.0, moves(0, 0, 1)), interval_s=0.01)
    orders.idle = False  # type: ignore[misc]
    records = serve(work([0.0], [8], [380]), spec(), spec(), controllers=(orders,))
    assert orders.answers == [""] and records.moves is not None and np.isfinite(records.moves.landed_s).all()
