"""The naive cluster against schedules worked out by hand: it is the judge of clusters elsewhere, so here it is judged."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.cluster_cases import ClusterCase
from tests.engine.strategies import Case, Row
from tests.reference.toy_cost import RoundCost

# Steps take 1/4 s plus 1/4 s for every 8 tokens. A token's KV is 16 bytes.


def one(*rows: Row, kv_blocks: int = 20, slots: int = 4) -> Case:
    return Case(rows, "vllm-v1", (), RoundCost(), kv_blocks=kv_blocks, block_tokens=4, max_seqs=slots)


def test_contents_are_found_and_forgotten_by_hand() -> None:
    """Five blocks. The second prompt finds one of the two that the first has left. The third prompt needs four: all is forgotten but the
    beginning that both had, which was used last. The fourth finds it; by its three blocks one of the third's three is forgotten."""
    rows = (Row(0, 8, 2), Row(10, 8, 2), Row(20, 13, 2), Row(30, 8, 2))
    case = ClusterCase(one(*rows, kv_blocks=5), contents=((1, 2), (1, 3), (7, 8, 9, 10), (1, 2)))
    naive = case.naive()
    assert [r.cached for r in naive.reqs] == [0, 4, 0, 4]
    assert [key for _, _, key in naive.instances[0].idle] == [8, 7, 2, 1]


def test_turns_and_queues_by_hand() -> None:
    """One sequence slot each. In turn, the third request waits behind the long one; to the shorter queue, it goes beside the short one."""
    rows = (Row(0, 4, 9), Row(0, 4, 3), Row(0.5, 4, 2), Row(0.5, 4, 2))
    turn = ClusterCase(one(*rows, slots=1), roles=("mixed", "mixed"), extra_blocks=(0, 0))
    naive = turn.naive()
    assert [r.served_by for r in naive.reqs] == [0, 1, 0, 1]
    assert [r.finish_s for r in naive.reqs] == [2.25, 0.75, 2.75, 1.25]
    tokens = replace(turn, router="least-tokens").naive()
    assert [r.served_by for r in tokens.reqs] == [0, 1, 0, 1]


def test_two_copies_share_a_link_by_hand() -> None:
    """Both prompts, 8 and 4 tokens, are computed by 0.5 s: 128 and 64 bytes at 64 bytes a second. Together until 2.5 s, when the small one
    has arrived and the large one has 64 bytes left, alone for another second: it decodes its second token from 3.5 to 3.75 s."""
    case = ClusterCase(one(Row(0, 8, 2), Row(0, 4, 2)), roles=("prefill", "decode"), extra_blocks=(0, 0), link=(64.0, 0.0))
    naive = case.naive()
    assert [r.token_s for r in naive.reqs] == [[0.5, 3.75], [0.5, 2.75]]
    assert [(s.start_s, s.decodes, s.kv_blocks) for s in naive.instances[1].steps] == [(2.5, 1, 5), (3.5, 1, 3)]


def test_a_push_by_layers_by_hand() -> None:
    """Eight tokens of 16 bytes are computed in half a second, in which a link of 64 bytes a second carries 32 of the 128 bytes: 96 are
    left, 1.5 s. A push as a whole has 128 left, 2 s. A fast link has but the last of four layers left, 32 bytes of 1,024 a second."""
    case = ClusterCase(one(Row(0, 8, 2)), roles=("prefill", "decode"), extra_blocks=(0, 0), link=(64.0, 0.0), kv_transfer="push-layerwise")
    seconds = {"push-layerwise": 2.25, "push": 2.75, "pull": 2.75}
    for way, second_s in seconds.items():
        (r,) = replace(case, kv_transfer=way).naive().reqs
        assert r.token_s == [0.5, second_s]
    (r,) = replace(case, link=(1024.0, 0.0)).naive().reqs
    assert r.token_s == [0.5, 0.5 + 32 / 1024 + 0.25]


def test_a_push_that_waits_for_memory_sends_ahead_only_what_there_was_room_for() -> None:
    """The decode instance holds one of them at a time. The second prompt, computed from 1 to 1.5 s (3 blocks of 5 are taken until then),
    finds room when the first request has ended, after its own prefill: nothing has been sent ahead."""
    rows = (Row(0, 8, 3), Row(1.0, 8, 3))
    base = replace(one(*rows), kv_blocks=5)
    case = ClusterCase(base, roles=("prefill", "decode"), extra_blocks=(9, 0), link=(64.0, 0.0), kv_transfer="push-layerwise")
    first, second = case.naive().reqs
    assert first.token_s == [0.5, 2.25, 2.5]
    assert second.token_s == [1.5, 2.5 + 2.0 + 0.25, 2.5 + 2.0 + 0.5]


def test_three_rules_of_dying_by_hand() -> None:
    """Tokens at 0.5 and 0.75 s, then the instance dies at 0.875 s, in the middle of the third step, and is back a second later."""
    case = ClusterCase(one(Row(0, 8, 4)), failures=((0.875, 0),), restart_s=1.0)
    (resumed,) = case.naive().reqs
    assert (resumed.token_s, resumed.recomputed) == ([0.5, 0.75, 2.375, 2.625], 9)  # 10 tokens at once, then one more
    (again,) = replace(case, rule="retry").naive().reqs
    assert (again.token_s, again.scheduled_s, again.recomputed) == ([2.375, 2.625, 2.875, 3.125], 1.875, 9)
    (failed,) = replace(case, rule="fail").naive().reqs
    assert (failed.token_s, failed.status, failed.finish_s) == ([0.5, 0.75], "FAILED", 0.875)


def test_a_step_that_ends_as_its_instance_dies_has_ended() -> None:
    (r,) = ClusterCase(one(Row(0, 8, 2)), failures=((0.75, 0),)).naive().reqs
    assert (r.status, r.finish_s) == ("COMPLETED", 0.75)
