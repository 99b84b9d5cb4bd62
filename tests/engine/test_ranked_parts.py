"""Instances ranked by what they score at most, in parts: the same as looking at all of them."""

import math
import random

import numpy as np
import pytest

from benchmarks.counted_work import case
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.contracts import Load
from simserve.engine import simulate
from simserve.engine.lane_logs import Totals, _computed
from simserve.engine.ranking import Ranking


def free_of(load: Load) -> float:
    return math.inf if not load.running else float(load.free_blocks)


@pytest.mark.parametrize("size", [1, 16, 17, 50])
def test_the_best_of_many_instances_is_found_in_its_part(size: int) -> None:
    """Scores of few values, so that ties are common: fewest outstanding wins, then the first. Loads rise where it is said."""
    draw = random.Random(size)
    free, outstanding = [draw.randrange(6) for _ in range(size)], [draw.randrange(1, 3) for _ in range(size)]
    ranking = Ranking(range(size), free_of, lambda number, exact: Load(free[number], 10, outstanding[number], 0, 0), outstanding)
    for _ in range(300):
        number = draw.randrange(size)
        if draw.random() < 0.5:
            free[number] = draw.randrange(6)
            ranking.ease(number)
        else:
            free[number] -= free[number] > 0
        best = max(range(size), key=lambda one: (free[one], -outstanding[one], -one))
        assert ranking.best() == (best, float(free[best]))


def test_lanes_counted_together_are_the_lanes_counted_one_by_one() -> None:
    parts = assemble(load(case(5, 60)))
    lanes = simulate(parts.workload, parts.instances, parts.cluster).lanes
    totals = Totals(len(lanes))
    totals.add(lanes)
    totals.add(lanes)
    assert np.array_equal(totals.of_lane, 2 * np.array([_computed(lane) for lane in lanes]))
