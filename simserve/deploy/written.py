"""Flags of one instance as they are gathered, with what has no flag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simserve.config.engine_profile import EngineProfile
from simserve.deploy.flag_list import FlagList


@dataclass
class Written:
    """Flags with their values, in the order of the list, and what could not be said with one."""

    listed: FlagList
    version: str
    profile: EngineProfile
    flags: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def engine(self) -> str:
        """The engine and its version, as notes call it."""
        return f"{self.listed.title} {self.version}"

    def put(self, flags: Mapping[str, Any], why: str) -> None:
        """Further flags; a note where this version lacks one. `why` is what they are for."""
        for flag, value in flags.items():
            if self.listed.has(flag, self.version):
                self.flags[flag] = value
            else:
                self.notes.append(f"{why}: {self.engine} has no flag {flag}")

    def in_order(self) -> dict[str, Any]:
        """The flags in the order of the list."""
        return {flag: self.flags[flag] for flag in self.listed.flags if flag in self.flags}

    def for_key(self, key: str, method: str = "") -> str | None:
        """The flag that sets a key of the experiment, of several the first in the list; None where this version has none."""
        table = self.profile.all_flags()
        for flag, entry in self.listed.flags.items():
            if table.get(flag) == key and self.listed.has(flag, self.version) and (not entry.methods or method in entry.methods):
                return flag
        return None
