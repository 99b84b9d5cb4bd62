"""The verdict of a soak (`benchmarks/soak.py`): a leak is told, and what only fills and stays is none."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks import soak
from benchmarks.soak import LIMITS, Growth, Sample, growths

EVERY = 25
ROOT = Path(__file__).resolve().parents[1]


def samples(held: Callable[[int], float], noise: float, count: int = 120, figure: str = "blocks") -> list[Sample]:
    """Samples in which one figure is `held` after so many experiments, give or take some noise."""
    dice = Random(3)
    steady = {"rss_bytes": 10**8, "blocks": 260_000, "allocated_bytes": 10**7}
    return [
        Sample(EVERY * k, **steady | {figure: steady[figure] + int(held(EVERY * k) + dice.gauss(0.0, noise))}) for k in range(1, count + 1)
    ]


def of(figure: str, found: list[Growth]) -> Growth:
    return next(growth for growth in found if growth.figure == figure)


@pytest.mark.parametrize("figure", LIMITS)
@pytest.mark.parametrize(("leak", "grows"), [(0.0, False), (0.5, False), (2.0, True), (100.0, True)])
def test_a_leak_above_the_limit_is_told_through_noise(figure: str, leak: float, grows: bool) -> None:
    limit = LIMITS[figure]
    found = growths(samples(lambda n: leak * limit * n, 100 * limit, figure=figure))
    assert of(figure, found).grows is grows
    assert of(figure, found).slope == pytest.approx(leak * limit, abs=0.3 * limit)
    assert not any(other.grows for other in found if other.figure != figure)


def test_what_fills_and_stays_is_no_leak() -> None:
    """Modules that are imported, caches that fill."""
    found = of("blocks", growths(samples(lambda n: 150_000 * (1 - math.exp(-n / 150)), 50)))
    assert not found.grows and abs(found.slope) < 1


def test_a_few_large_experiments_do_not_move_the_line() -> None:
    def held(n: int) -> float:
        return 50_000_000.0 if n // EVERY in (70, 90, 91, 119) else 0.0

    assert not of("rss_bytes", growths(samples(held, 1000, figure="rss_bytes"))).grows


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="20 are needed"):
        growths(samples(lambda n: 0.0, 1, count=10))


@pytest.mark.parametrize(
    ("kept", "figure"), [("None", None), ("[object() for _ in range(200)]", "blocks"), ("np.zeros(20_000)", "allocated_bytes")]
)
def test_objects_and_arrays_that_are_kept_are_seen(kept: str, figure: str | None) -> None:
    """In a process of their own, so that nothing else moves its figures: something is kept after so many "experiments", or nothing is."""
    code = (
        "import numpy as np\n"
        "from benchmarks.soak import growths, sample\n"
        "held, found = [], []\n"
        "for number in range(1, 49):\n"
        f"    held.append({kept})\n"
        f"    found.append(sample({EVERY} * number))\n"
        "print(*(growth.figure for growth in growths(found) if growth.grows))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - {"rss_bytes"} == ({figure} if figure else set())


def test_a_soak_runs_counts_and_writes_samples(tmp_path: Path) -> None:
    found, seen = soak.soak(0.2, 1000, 1, tmp_path)
    assert len(found) == sum(seen.kinds.values()) >= 1 and not seen.kinds["broken"]
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == len(found)
