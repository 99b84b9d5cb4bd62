"""Dated lists of engines' flags: which a version has, what kind of value each takes, and what else a command line of that engine needs.

A list holds facts only; which key of an experiment a flag sets stands in the engine's profile (`simserve/config/engines`), once for both
directions: reading flags and writing them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from simserve.config.engine_profile import EngineProfile
from simserve.config.section import Section
from simserve.errors import ConfigError, nearest
from simserve.files import messages, yaml_text
from simserve.files.words import shown

FOLDER = Path(__file__).parent / "engines"
SCHEMA_VERSION = 1

Kind = Literal["switch", "integer", "number", "text", "choice", "json"]


class Flag(Section):
    """One flag, named as the engine's Python does (underscores); a part of one that holds a mapping as `speculative_config.method`."""

    kind: Kind
    since: str | None = Field(default=None, description="The first of the list's versions that has it. Default: all of them.")
    until: str | None = Field(default=None, description="The last of the list's versions that has it.")
    off: bool = Field(default=False, description="Of a switch: `--no-...` says that it is off.")
    always: bool = Field(default=False, description="Written even where the engine's default is the same, since plans choose it.")
    values: list[str] = Field(default_factory=list, description="Values that may be written, the preferred one first.")
    values_from: dict[str, list[str]] = Field(default_factory=dict, description="The same from a version on.")
    methods: list[str] = Field(default_factory=list, description="Only for these ways of speculation.")
    within: Literal["options"] | None = Field(default=None, description="A key of the options file and not of the command line.")
    positional: bool = Field(default=False, description="The argument of the command, without its name.")


class ProfileEntry(Section):
    """A profile's version, where none is asked for, and flags that its behaviour needs."""

    version: str
    flags: dict[str, Any] = Field(default_factory=dict)


class RouterEntry(Section):
    """What stands in front of prefill and decode instances, where the engine comes with it."""

    program: list[str]
    prefill: list[str] = Field(default_factory=list, description="For each prefill instance; {url} is its address.")
    decode: list[str] = Field(default_factory=list)
    last: list[str] = Field(default_factory=list)
    file: str = Field(default="", description="Instead: a file that names all instances.")


class RolesEntry(Section):
    """Prefill and decode on instances of their own."""

    since: str | None = None
    prefill: dict[str, Any]
    decode: dict[str, Any]
    env: dict[str, str] = Field(default_factory=dict, description="Environment; POD_IP is the instance's own address.")
    transfer: Literal["pull", "push"]
    needs: str
    router: RouterEntry | None = None


class NodesEntry(Section):
    """Instances over several nodes: flags that say how many, which one and where the first is; `others`: those of all but the first."""

    since: str | None = None
    flags: dict[str, Literal["nodes", "rank", "first", "first-with-port"]]
    others: dict[str, Any] = Field(default_factory=dict)


class Exported(Section):
    """A metric as the engine exports it. rate: a counter, of which autoscalers want the rate; mean: a histogram's sum over its count."""

    name: str
    before: dict[str, str] = Field(default_factory=dict, description="Its name before a version.")
    rate: bool = False
    mean: bool = False


class MetricsEntry(Section):
    """What autoscalers can scale on."""

    flags: dict[str, Any] = Field(default_factory=dict, description="Flags without which nothing is exported.")
    missing: str = Field(default="", description="What there is instead where a metric is not listed.")
    waiting: Exported | None = None
    running: Exported | None = None
    kv_usage: Exported | None = None
    tokens_per_s: Exported | None = None
    requests_per_s: Exported | None = None
    ttft_s: Exported | None = None


class FlagList(Section):
    """One engine: its flags in the order in which they are written, by version."""

    schema_version: int
    engine: str
    title: str
    checked: date
    sources: list[str] = Field(min_length=1)
    versions: list[str] = Field(min_length=1, description="Versions whose own parser the flags were compared with, ascending.")
    profiles: dict[str, ProfileEntry]
    program: list[str]
    spelling: Literal["dashes", "underscores"]
    image: str | None = None
    devices_of: str = Field(default="nvidia.com", description="Whose devices the image is for: the domain of their Kubernetes resource.")
    server: dict[str, Any]
    health: str
    context_must_fit: bool = Field(default=False, description="It does not start where a sequence of the longest length has no KV cache.")
    options: str | None = Field(default=None, description="The flag that names the options file, where the engine has one.")
    flags: dict[str, Flag]
    orders: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Queue discipline -> flags that make it so.")
    roles: RolesEntry | None = None
    nodes: NodesEntry | None = None
    metrics: MetricsEntry = Field(default_factory=MetricsEntry)

    def has(self, flag: str, version: str) -> bool:
        """Whether a listed version has the flag; of one between two listed ones, whether both have it."""
        entry = self.flags.get(flag)
        return entry is not None and all(self.within(entry.since, entry.until, one) for one in self.around(version))

    def within(self, since: str | None, until: str | None, version: str) -> bool:
        """Whether a version lies between two of the list's."""
        return (since is None or order(version) >= order(since)) and (until is None or order(version) <= order(until))

    def around(self, version: str) -> tuple[str, ...]:
        """The listed versions that stand for this one: itself, or the next before and after it."""
        if version in self.versions:
            return (version,)
        before = [one for one in self.versions if order(one) < order(version)][-1:]
        after = [one for one in self.versions if order(one) > order(version)][:1]
        return (*before, *after)

    def values(self, flag: str, version: str) -> list[str]:
        """The values of a flag that may be written, the preferred one first; empty: any."""
        found = self.flags[flag].values
        for since, values in self.flags[flag].values_from.items():
            found = values if order(version) >= order(since) else found
        return found

    def version(self, profile: str, asked: str | None) -> tuple[str, str]:
        """The version to write for, and a note where it is not one of the list's. Raises ConfigError for a text that is no version, and
        for one outside of the list."""
        if asked is None:
            entry = self.profiles.get(profile)
            return (
                (entry.version, "")
                if entry
                else (self.versions[-1], f"profile {profile} is not listed, so flags are those of {self.title} {self.versions[-1]}")
            )
        text = asked.removeprefix("v")
        if text in self.versions:
            return text, ""
        if not re.fullmatch(r"\d+(\.\d+)*([.-]?(post|rc|a|b)\d+)?", text):
            raise ConfigError(f"engine version {shown(asked)}: expected one such as {self.versions[-1]}{nearest(text, self.versions)}")
        around = self.around(text)
        if len(around) < 2:
            raise ConfigError(
                f"{self.title} {text}: its flags are not known; the list of {self.checked} goes from {self.versions[0]} to"
                f" {self.versions[-1]}"
            )
        return text, f"{self.title} {text} was not looked at itself: flags are those that {around[0]} and {around[1]} both have"


def order(version: str) -> tuple[int, ...]:
    """What versions are sorted by; `0.5.6.post2` comes after `0.5.6`."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def of_profile(profile: EngineProfile) -> FlagList:
    """The list for an engine profile: the one that names it, or that of the engine which it says it is. Raises ConfigError."""
    lists = bundled()
    for found in lists:
        if profile.name in found.profiles:
            return found
    alike = {found.title.lower(): found for found in lists} | {found.engine: found for found in lists}
    if profile.name not in KNOWN_WITHOUT and profile.engine.lower() in alike:
        return alike[profile.engine.lower()]
    names = ", ".join(sorted(name for found in lists for name in found.profiles))
    raise ConfigError(
        f"engine {profile.name}: no command lines for {profile.engine} {profile.versions}; they are written for the profiles {names}"
    )


KNOWN_WITHOUT = ("vllm-v0", "vllm-v0-offline", "vllm-2023", "vllm-ascend-0.9")
"""Bundled profiles of versions that no list reaches back to."""


@functools.lru_cache(maxsize=1)
def bundled() -> tuple[FlagList, ...]:
    """All lists. Raises ConfigError for one that cannot be read, which is a mistake of simserve."""
    written = {path.stem: yaml_text.read(path).data for path in sorted(FOLDER.glob("*.yaml"))}
    return tuple(_checked(path, written) for path in sorted(written))


def bundled_for(owner: str) -> list[str]:
    """Engine profiles whose images are for the devices of a vendor."""
    return sorted(profile for one in bundled() if one.devices_of == owner for profile in one.profiles)


def _checked(name: str, written: Mapping[str, dict[str, Any]]) -> FlagList:
    data = dict(written[name])
    like = data.pop("like", None)
    if like is not None:
        extra = data.pop("extra", {})
        data = {**written[like], **data}
        data["flags"] = {**data["flags"], **extra}
        data["image"] = written[name].get("image")
    document = yaml_text.Document(f"{name}.yaml", data)
    found, mistakes = messages.check(FlagList, data, document)
    messages.fail(document.source, mistakes)
    assert isinstance(found, FlagList)
    return found
