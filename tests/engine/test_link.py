"""Links: latency, fair sharing, cancellation; nothing is moved faster than the bandwidth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine.clock import Clock
from simserve.engine.link import Link
from simserve.errors import ConfigError


def ends(sizes: list[tuple[float, float]], bandwidth: float = 100.0, **kw: float) -> list[float]:
    """End times of transfers given as (start, bytes)."""
    clock, found = Clock(), [0.0] * len(sizes)
    link = Link(clock, bandwidth, **kw)
    for i, (at, size) in enumerate(sizes):
        clock.at(at, lambda event, i=i, size=size: link.start(size, lambda now: found.__setitem__(i, now)))
    clock.run()
    return found


def test_alone_a_transfer_takes_latency_and_bytes_over_bandwidth() -> None:
    assert ends([(1.0, 200.0)], latency_s=0.5) == pytest.approx([3.5])


def test_two_equal_transfers_share() -> None:
    assert ends([(0.0, 100.0), (0.0, 100.0)]) == pytest.approx([2.0, 2.0])


def test_a_short_transfer_delays_a_long_one_by_its_own_time() -> None:
    # Until 1 s alone (100 bytes done), then halves: the short one ends at 2 s, the long one at 3 s + 0.5 s.
    assert ends([(0.0, 300.0), (1.0, 50.0)]) == pytest.approx([3.5, 2.0])


def test_messages_cost_each() -> None:
    clock, found = Clock(), []
    Link(clock, 100.0, latency_s=0.1, per_message_s=0.2).start(100.0, found.append, messages=4)
    clock.run()
    assert found == pytest.approx([0.1 + 3 * 0.2 + 1.0])


def test_a_cancelled_transfer_gives_its_share_back_and_never_ends() -> None:
    clock, found = Clock(), []
    link = Link(clock, 100.0)
    link.start(100.0, lambda now: found.append(("a", now)))
    b = link.start(100.0, lambda now: found.append(("b", now)))
    clock.at(1.0, lambda event: link.cancel(b))
    clock.run()
    assert found == [("a", pytest.approx(1.5))]
    assert link.in_flight == 0


def test_no_bandwidth_is_an_error() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Link(Clock(), 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 500)), min_size=1, max_size=12))
def test_the_link_is_busy_while_there_is_work_and_never_faster_than_its_bandwidth(sizes: list[tuple[float, float]]) -> None:
    """Work conservation: the last transfer ends when a single queue of the same bytes would be empty."""
    done = ends(sizes)
    order = np.argsort([at for at, _ in sizes], kind="stable")
    busy_until = 0.0
    for i in order:
        at, size = sizes[i]
        busy_until = max(busy_until, at) + size / 100.0
    assert max(done) == pytest.approx(busy_until, abs=1e-6)
    for (at, size), end in zip(sizes, done, strict=True):
        assert end >= at + size / 100.0 - 1e-6
