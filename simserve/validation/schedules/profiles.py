"""Which engine profile stands for a version of an engine: the one whose `versions` hold it."""

from __future__ import annotations

import re

from simserve.config import engine_profile
from simserve.config.engine_profile import EngineProfile
from simserve.errors import ConfigError, listed
from simserve.validation.schedules.schedule import ENGINES

_RANGE = re.compile(r"(\d+(?:\.\d+)*)(?: to (\d+(?:\.\d+)*))?")


def profile_for(engine: str, version: str, *, asynchronous: bool = False) -> str:
    """The profile of an engine's version. Where several hold it, one that schedules asynchronously or does not, as asked, then the one for
    the fewest versions. Raises ConfigError where none does."""
    found = []
    for name in engine_profile.names():
        profile = engine_profile.load_engine(name)
        span = _span(profile.versions)
        if profile.engine == ENGINES.get(engine) and span is not None and _holds(span, version):
            found.append((bool(profile.request_path.steps_ahead) != asynchronous, _width(span), name))
    if not found:
        known = [name for name in engine_profile.names() if engine_profile.load_engine(name).engine == ENGINES.get(engine)]
        which = f"those of {ENGINES[engine]} are {listed(known)}" if known else f"none is of {ENGINES.get(engine, engine)}"
        raise ConfigError(f"no engine profile is for {ENGINES.get(engine, engine)} {version}: {which}; name one with --profile")
    return min(found)[2]


def schedules_ahead(profile: EngineProfile) -> bool:
    """Whether it plans a step while the one before it runs."""
    return profile.request_path.steps_ahead > 0


def _span(versions: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """First and last version that a profile's text names, in numbers: "0.8 to 0.13, V1 engine"."""
    match = _RANGE.match(versions)
    return None if match is None else (numbers(match[1]), numbers(match[2] or match[1]))


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 0.5.1.post3 is 0.5.1."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _holds(span: tuple[tuple[int, ...], tuple[int, ...]], version: str) -> bool:
    """Whether a version is in a range whose ends stand for all that begins with them: 0.13.1 is in "0.8 to 0.13"."""
    found = numbers(version)
    first, last = span
    return bool(found) and found[: len(first)] >= first and found[: len(last)] <= last


def _width(span: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
    """How much a range holds: versions differ in their second number, hotfixes in the third."""
    first, last = ((*part, 0, 0)[:3] for part in span)
    return sum((b - a) * scale for a, b, scale in zip(first, last, (1e6, 1e3, 1), strict=True))
