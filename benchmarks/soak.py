"""A soak: random experiments under `--check` in one process, for as long as you like. Does anything break, and does memory grow?

    python -m benchmarks.soak --minutes 30 [--first SEED] [--folder FOLDER]

Experiments are those of `tests/engine/random_experiments.py` and `wider_experiments.py` in turns: every policy, router and engine profile,
failures, migrations, scaling, speculation, pipeline stages. Nothing is patched: caches fill and forget as they do for a user.

**Does it grow?** Every few experiments three figures are taken after a garbage collection: memory in RAM (RSS) as it is, once the C library
has returned what it holds free; and when simserve's caches have been emptied, the blocks that Python has allocated and the bytes that the
C library has handed out (arrays, and all else above 512 bytes). The first half of the samples is warm-up, in which modules are imported,
caches fill and the allocators reach their size. Through the rest goes the Theil-Sen line, the median of the slopes between all pairs of
samples (Sen 1968, doi:10.1080/01621459.1968.10480934), which single large experiments do not move. A figure grows when even the lower end
of the slope's 95 % interval is above its limit (LIMITS).

Samples are lines of FOLDER/samples.jsonl; experiments that broke or hung are written there as YAML. Exit code 1 when one did, or memory
grows.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

WARM_UP = 1 / 2
"""Of the samples."""

FEWEST = 20
"""Samples after the warm-up below which no line is drawn: among fewer one large experiment that is still held decides."""

LIMITS = {"blocks": 1.0, "allocated_bytes": 1024.0, "rss_bytes": 4096.0}
"""An experiment, by figure: one object; of arrays a quarter of the least that a run can keep whole, the columns of its requests, of which
it has 25 in the mean and each takes about 150 bytes; of memory in RAM (RSS) one page."""


class _Malloc(ctypes.Structure):
    """`struct mallinfo2` (mallinfo(3))."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds after so many experiments."""

    experiments: int
    rss_bytes: int
    blocks: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """The slope of one figure an experiment, with its 95 % interval."""

    figure: str
    slope: float
    low: float
    high: float

    @property
    def grows(self) -> bool:
        """Whether the figure certainly grows faster than it may."""
        return self.low > LIMITS[self.figure]

    def __str__(self) -> str:
        what, limit = "GROWS" if self.grows else "does not grow", LIMITS[self.figure]
        return f"{self.figure}: {self.slope:+.2f} an experiment (95 %: {self.low:+.2f} to {self.high:+.2f}; limit {limit:g}): {what}"


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """The slopes after the warm-up. Raises ValueError where there are too few samples to tell."""
    from scipy.stats import theilslopes

    steady = samples[round(len(samples) * WARM_UP) :]
    if len(steady) < FEWEST:
        raise ValueError(f"{len(steady)} samples after the warm-up; {FEWEST} are needed to say whether memory grows")
    at = [sample.experiments for sample in steady]
    found = []
    for figure in LIMITS:
        slope, _, low, high = theilslopes([getattr(sample, figure) for sample in steady], at, alpha=0.95)
        found.append(Growth(figure, float(slope), float(low), float(high)))
    return found


def sample(experiments: int) -> Sample:
    """The figures of this process now. simserve's caches are empty afterwards."""
    gc.collect()
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)
    rss = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for cache in simserve_caches():
        cache.cache_clear()
    gc.collect()
    allocated = 0
    if library is not None:
        state = library.mallinfo2()
        allocated = state.uordblks + state.hblkhd
    return Sample(experiments, rss, sys.getallocatedblocks(), allocated)


def simserve_caches() -> list[Any]:
    """Every `functools.lru_cache` of simserve in this process, but for what is installed: asked again after a folder of the path has
    changed, Python's own `importlib.metadata` keeps the old answer beside the new one."""
    return [
        thing
        for thing in gc.get_objects()
        if isinstance(thing, functools._lru_cache_wrapper)
        and (thing.__module__ or "").startswith("simserve.")
        and thing.__module__ != "simserve.plugins"
    ]


@functools.lru_cache(maxsize=1)
def _c_library() -> ctypes.CDLL | None:
    """glibc, None where it is another library or too old: then `allocated_bytes` is 0."""
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallinfo2.restype = _Malloc
        return library
    except (OSError, AttributeError):
        return None


class Seen:
    """What the experiments of a soak met."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()

    def add(self, mapping: dict[str, Any], found: dict[str, Any]) -> None:
        """Counts one experiment and what became of it."""
        self.kinds[found["kind"]] += 1
        if found["kind"] != "ok":
            return
        self.met.update(key for key in ("died", "migrated", "scaled", "transferred", "preemptions", "cancelled", "staged") if found[key])
        self.met.update(key for key in ("speculation",) if key in mapping)
        self.policies.update({group["scheduler"]["policy"] for group in mapping["cluster"]["instances"]})

    def __str__(self) -> str:
        return f"{dict(self.kinds)}; met {dict(self.met)}; policies {dict(sorted(self.policies.items()))}"


def soak(seconds: float, first: int, every: int, folder: Path) -> tuple[list[Sample], Seen]:
    """Runs experiments until the time is over; what breaks is printed, and kept in the folder."""
    from tests.engine.campaign import keep, outcome
    from tests.engine.random_experiments import experiment
    from tests.engine.wider_experiments import wider

    folder.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    seen = Seen()
    end = time.monotonic() + seconds
    number = 0
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as out:
        while time.monotonic() < end:
            case = (wider if number % 2 else experiment)(first + number)
            with tempfile.TemporaryDirectory() as scratch:
                found = outcome(case, Path(scratch))
            seen.add(case.mapping, found)
            if found["kind"] in ("broken", "hung"):
                print(f"seed {case.seed}: {found['kind']}: {found['said']} ({keep(case, folder)})", flush=True)
            number += 1
            if number % every == 0:
                samples.append(sample(number))
                out.write(json.dumps(asdict(samples[-1])) + "\n")
                out.flush()
    return samples, seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--every", type=int, default=25, help="experiments between samples")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    samples, seen = soak(60 * options.minutes, options.first, options.every, folder)
    print(f"{sum(seen.kinds.values())} experiments in {options.minutes:g} minutes: {seen}")
    if samples:
        print(f"RSS {samples[0].rss_bytes / 2**20:.0f} MiB at first, {samples[-1].rss_bytes / 2**20:.0f} MiB at last")
    try:
        found = growths(samples)
    except ValueError as problem:
        print(f"{problem} (--minutes, --every)")
        return 1
    for growth in found:
        print(growth)
    return int(bool(seen.kinds["broken"] or seen.kinds["hung"]) or any(growth.grows for growth in found))


if __name__ == "__main__":
    sys.exit(main())
