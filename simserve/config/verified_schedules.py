"""Which engine profiles schedule as the engines themselves do, step for step: shown with every result that is made under one.

`verified_schedules.yaml` is written by `python -m benchmarks.schedules verify` from recorded schedules of real engines' schedulers
(docs/conformance.md says what is compared).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from simserve.config.section import Section
from simserve.files import messages
from simserve.files.yaml_values import read_values

FILE = Path(__file__).parent / "verified_schedules.yaml"


class VerifiedKind(Section):
    """Workloads of one kind under one version.

    equal, of   how many schedules were equal, of how many that both sides ran
    first_difference   of those that were not, where the first one parts
    not_driven, not_simulated   how many the engine's version, or simserve, has no rule for; `why`
    """

    equal: int = Field(default=0, ge=0)
    of: int = Field(default=0, ge=0)
    first_difference: str = ""
    not_driven: int = Field(default=0, ge=0)
    not_simulated: int = Field(default=0, ge=0)
    why: str = ""


class VerifiedVersion(Section):
    """One version of an engine, held against one profile."""

    engine: str = Field(description="As the engine names itself.")
    version: str
    profile: str
    kinds: dict[str, VerifiedKind]

    @property
    def equal(self) -> int:
        """Schedules that were equal, of all kinds."""
        return sum(kind.equal for kind in self.kinds.values())

    @property
    def workloads(self) -> int:
        """Schedules that were compared, of all kinds."""
        return sum(kind.of for kind in self.kinds.values())

    @property
    def not_equal(self) -> list[str]:
        """Kinds of which some schedule was not equal."""
        return [name for name, kind in self.kinds.items() if kind.equal < kind.of]

    def described(self) -> dict[str, Any]:
        """As results have it."""
        about = {"engine": self.engine, "version": self.version, "equal": self.equal, "workloads": self.workloads}
        return about | {"not_equal": self.not_equal}


class VerifiedSchedules(Section):
    """The whole file."""

    versions: list[VerifiedVersion] = Field(default_factory=list)


def verified(profile: str) -> list[VerifiedVersion]:
    """What is known of a bundled profile's schedules, by version."""
    return [one for one in everything().versions if one.profile == profile]


@lru_cache(maxsize=1)
def everything() -> VerifiedSchedules:
    """What is known of all profiles."""
    if not FILE.is_file():
        return VerifiedSchedules()
    return messages.checked(VerifiedSchedules, read_values(FILE).data, str(FILE))


def schedule_of(profile: str, policy: str, own_policy: str | None, other: Sequence[str] = ()) -> dict[str, Any]:
    """What results say of the schedule of an instance: the versions that it was held against, if its policy is the profile's own; `other`
    = its settings that were not compared, or not equal (`simserve.config.compared_settings`)."""
    if policy != own_policy:
        return {"policy": policy, "own_policy": own_policy, "versions": []}
    found = {"policy": policy, "own_policy": own_policy, "versions": [one.described() for one in verified(profile)]}
    return found | ({"not_as_compared": list(other)} if other and found["versions"] else {})
