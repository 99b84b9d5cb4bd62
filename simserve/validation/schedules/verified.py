"""From comparisons to the record of what was verified, which every result shows (`simserve.config.verified_schedules`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from simserve.config.verified_schedules import VerifiedKind, VerifiedSchedules, VerifiedVersion
from simserve.files import yaml_text
from simserve.validation.schedules.compare import Comparison, Tally, tallies
from simserve.validation.schedules.profiles import numbers
from simserve.validation.schedules.report import headline
from simserve.validation.schedules.schedule import ENGINES

HEAD = "# Written by python -m benchmarks.schedules verify from recorded schedules of real engines' schedulers; docs/conformance.md.\n"


def verified(comparisons: Iterable[Comparison]) -> VerifiedSchedules:
    """What was equal, by engine, version, profile and kind."""
    found: dict[tuple[str, str, str], dict[str, VerifiedKind]] = {}
    for tally in sorted(tallies(comparisons), key=_order):
        found.setdefault((tally.engine, tally.version, tally.profile), {})[tally.kind] = _kind(tally)
    versions = [VerifiedVersion(engine=ENGINES[engine], version=v, profile=profile, kinds=k) for (engine, v, profile), k in found.items()]
    return VerifiedSchedules(versions=versions)


def write(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Writes the record, always the same for the same comparisons."""
    path.write_text(HEAD + yaml_text.dump(verified(comparisons).model_dump(exclude_defaults=True)), encoding="utf-8")


def _order(tally: Tally) -> tuple[int, tuple[int, ...], str, str]:
    """Engines as they are listed, versions by number."""
    return list(ENGINES).index(tally.engine), numbers(tally.version), tally.profile, tally.kind


def _kind(tally: Tally) -> VerifiedKind:
    return VerifiedKind(
        equal=tally.equal,
        of=tally.compared,
        first_difference="" if tally.first is None else headline(tally.first),
        not_driven=tally.not_driven,
        not_simulated=tally.not_simulated,
        why="; ".join(tally.refusals),
    )
