"""Engine profiles: which serving engine is imitated, and what it does when the user states nothing.

A profile is a YAML file in `simserve/config/engines/` (or the user's own). It gives the engine's scheduler and its defaults, the KV
cache rules, CUDA-graph sizes, host overheads, and the engine's own flag names with the place in an experiment that each one sets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from simserve import hints
from simserve.bounds import MOST_STEP_S, MOST_TOKENS
from simserve.config.schema import OpenSection, SchedulerSection, Section
from simserve.errors import ConfigError
from simserve.files import messages, yaml_text
from simserve.files.words import clipped, shown

SCHEMA_VERSION = 1
FOLDER = Path(__file__).parent / "engines"


def _ascending(sizes: list[int]) -> list[int]:
    if any(b <= a for a, b in pairwise([0, *sizes])):
        raise ValueError(f"batch sizes must be ascending positive numbers, found {sizes}")
    return sizes


GraphSizes = Annotated[list[int], AfterValidator(_ascending)]


class HostSection(Section):
    """Work of the CPU that the devices wait for, seconds."""

    per_step_s: float = Field(
        default=0.0, ge=0, le=MOST_STEP_S, description="For each step: scheduling, preparing inputs, sampling, output processing."
    )
    per_decode_request_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="For each decoding request in a step.")
    per_prefill_token_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="For each prompt token in a step.")
    kernel_launch_s: float | None = Field(
        default=None, ge=0, le=MOST_STEP_S, description="For each kernel outside CUDA graphs. Default: the device's own figure."
    )


class RequestPathSection(Section):
    """Time of a request outside the engine's steps, seconds; the devices do not wait for it."""

    per_request_s: float = Field(
        default=0.0, ge=0, le=MOST_STEP_S, description="For each request: HTTP, hand-over to the engine, the answer's way back."
    )
    per_prompt_token_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="For each prompt token: tokenising.")
    steps_ahead: int = Field(
        default=0,
        ge=0,
        le=2,
        description="Steps already scheduled beyond the one in progress when a request arrives (asynchronous scheduling).",
    )


class KvDefaults(Section):
    """The KV cache rules of an engine; the same words as an experiment's `kv`."""

    memory_utilisation: float = Field(default=0.9, gt=0, le=1)
    block_tokens: int = Field(default=16, ge=1, le=MOST_TOKENS)
    watermark: float = Field(default=0.0, ge=0, lt=1)
    prefix_caching: bool = False
    preemption: Literal["recompute", "swap"] = "recompute"
    host_memory_gib: float = Field(default=0.0, ge=0, le=1e9)


class HardwareDefaults(Section):
    """What differs on certain devices: scheduler defaults that the engine changes, and the hosts they come with."""

    prefixes: list[str] = Field(min_length=1, description="Beginnings of hardware profile names.")
    scheduler: dict[str, Any] = Field(default_factory=dict)
    host_speed: float = Field(
        default=1.0, ge=1e-3, le=1e3, description="How fast the hosts are, relative to those of `host`; its seconds are divided by it."
    )


class EngineProfile(Section):
    """One serving engine in one range of versions."""

    schema_version: int
    name: str
    engine: str = Field(description="The engine's own name.")
    versions: str = Field(description="Versions that the defaults were read from.")
    description: str
    validated: bool = Field(description="Whether the host overheads were compared with measured runs.")
    sources: list[str] = Field(min_length=1)
    scheduler: SchedulerSection
    on_hardware: list[HardwareDefaults] = Field(default_factory=list)
    kv: KvDefaults
    cuda_graph_sizes: GraphSizes = Field(description="Batch sizes captured for decode-only steps; empty = no CUDA graphs.")
    host: HostSection
    request_path: RequestPathSection = Field(default_factory=RequestPathSection)
    kernel_backend: str | None = Field(
        default=None, description="Engine whose kernel measurements are preferred, where a profile has several."
    )
    flags: dict[str, str] = Field(description="The engine's flag -> the key of an instance that it sets.")

    def flag_names(self) -> set[str]:
        """What may stand beside `name` in an experiment's `engine` mapping."""
        return {*self.flags, *OWN_KEYS}

    def default_of(self, key: str) -> str:
        """The profile's own value of an instance key such as `scheduler.max_seqs`; empty when the policy or the model decides."""
        section, _, name = key.partition(".")
        if section == "parallel":
            return "1"
        values = self.scheduler.parameters if section == "scheduler" else self.kv.model_dump() if section == "kv" else {}
        return f"{values[name]}" if name in values else ""


class EngineOverrides(OpenSection):
    """The profile's own parts that an experiment may replace directly."""

    host: HostSection | None = None
    request_path: RequestPathSection | None = None
    cuda_graph_sizes: GraphSizes | None = None


OWN_KEYS = tuple(EngineOverrides.model_fields)


def names() -> list[str]:
    """The bundled profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name_or_path: str, base_dir: Path | None = None) -> Path:
    """The file of a bundled profile, or of a path (relative to `base_dir`, then to the current directory).

    Raises ConfigError with the nearest bundled name.
    """
    if name_or_path in names():
        return FOLDER / f"{name_or_path}.yaml"
    if name_or_path.endswith((".yaml", ".yml")):
        for folder in (base_dir, Path.cwd()):
            if folder is not None and (folder / name_or_path).is_file():
                return (folder / name_or_path).resolve()
        raise ConfigError(f"engine profile '{name_or_path}': no such file")
    raise ConfigError(f"unknown engine '{clipped(name_or_path)}'{hints.engine(name_or_path, names())}")


def load_engine(name_or_path: str, base_dir: Path | None = None) -> EngineProfile:
    """An engine profile. Raises ConfigError for an unknown name, a broken file or another schema version."""
    path = find(name_or_path, base_dir)
    return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _load(path: Path, modified_ns: int) -> EngineProfile:
    """A profile, read once in a process while its file stays the same: a study loads it for every point."""
    document = yaml_text.read(path)
    found = document.data.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ConfigError(f"{path}: schema_version {shown(found)}; this simserve reads version {SCHEMA_VERSION}")
    profile, mistakes = messages.check(EngineProfile, document.data, document)
    messages.fail(str(path), mistakes)
    assert isinstance(profile, EngineProfile)
    return profile


def scheduler_defaults(profile: EngineProfile, hardware: str) -> Mapping[str, Any]:
    """Parameters of the profile's scheduler on a device, `policy` left out."""
    defaults = profile.scheduler.parameters
    for rule in profile.on_hardware:
        if hardware.startswith(tuple(rule.prefixes)):
            defaults = defaults | rule.scheduler
    return defaults


def host_speed(profile: EngineProfile, hardware: str) -> float:
    """How fast the hosts of a device are, relative to those that the profile's host seconds stand for."""
    speed = 1.0
    for rule in profile.on_hardware:
        if hardware.startswith(tuple(rule.prefixes)):
            speed *= rule.host_speed
    return speed
