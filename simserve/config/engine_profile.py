"""Engine profiles: which serving engine is imitated, and what it does when the user states nothing.

A profile is a YAML file in `simserve/config/engines/` (or the user's own). It gives the engine's scheduler and its defaults, the KV
cache rules, CUDA-graph sizes, host overheads, and the engine's own flag names with the place in an experiment that each one sets.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from simserve import hints
from simserve.bounds import MOST_STEP_S, MOST_TOKENS
from simserve.config.engine_flags import FlagRule
from simserve.config.engine_jitter import JitterChoice, JitterSection
from simserve.config.engine_memory import MemorySection
from simserve.config.engine_speculation import EngineSpeculation
from simserve.config.held_out import HeldOut, Verdict, recorded, verdict_on
from simserve.config.schema import SchedulerSection
from simserve.config.section import OpenSection, Section
from simserve.errors import ConfigError
from simserve.files import messages
from simserve.files.words import clipped, shown
from simserve.files.yaml_values import read_values

SCHEMA_VERSION = 1
FOLDER = Path(__file__).parent / "engines"
MOST_API_SERVERS = 1024


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
    per_draft_pass_s: float | None = Field(
        default=None,
        ge=0,
        le=MOST_STEP_S,
        description="For each forward pass of a draft: its inputs, the choice of its tokens, the launch of its graph. Default: as fitted on"
        " SGLang.",
    )
    per_verification_s: float | None = Field(
        default=None,
        ge=0,
        le=MOST_STEP_S,
        description="For each step that drafts: masks, the acceptance of drafted tokens, what waits for it. Default: as fitted on SGLang.",
    )
    per_graph_piece_s: float | None = Field(
        default=None,
        ge=0,
        le=MOST_STEP_S,
        description="For each layer of a step inside graphs that are cut at the attention (vLLM's PIECEWISE). Default: a step of"
        " decodes is one graph.",
    )


class RequestPathSection(Section):
    """Work on a request outside the engine's steps, seconds; the devices do not wait for it.

    An experiment that states any of its times states all of them: they were learned together. What it leaves out is 0, with as many
    servers as there are requests.
    """

    per_request_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="For each request: HTTP, passing it to the engine.")
    per_prompt_token_s: float = Field(default=0.0, ge=0, le=MOST_STEP_S, description="For each prompt token: tokenising.")
    per_output_token_s: float = Field(
        default=0.0,
        ge=0,
        le=MOST_STEP_S,
        description="For each token of an answer: text from tokens, a chunk to the client. Requests that wait for"
        " API servers wait that much longer; the client's own token is not delayed.",
    )
    delay_s: float = Field(
        default=0.0,
        ge=0,
        le=MOST_STEP_S,
        description="On the way, while no server works: network, waits between processes, the first token's way back.",
    )
    api_servers: int = Field(
        default=0,
        ge=0,
        le=MOST_API_SERVERS,
        description="Processes that do this work, one request after the other (vLLM's api_server_count). 0: as many as there are requests,"
        " so the work is a delay.",
    )
    steps_ahead: int = Field(
        default=0,
        ge=0,
        le=2,
        description="Steps already scheduled beyond the one in progress when a request arrives (asynchronous scheduling).",
    )

    def restated(self, stated: RequestPathSection) -> RequestPathSection:
        """This path as an experiment changes it: its times replace all of ours, its servers or steps ahead alone only those."""
        times = {"per_request_s", "per_prompt_token_s", "per_output_token_s", "delay_s"} & stated.model_fields_set
        before = RequestPathSection(steps_ahead=self.steps_ahead) if times else self
        return before.model_copy(update=stated.model_dump(exclude_unset=True))


class KvDefaults(Section):
    """The KV cache rules of an engine; the same words as an experiment's `kv`."""

    memory_utilisation: float = Field(default=0.9, gt=0, le=1)
    block_tokens: int = Field(default=16, ge=1, le=MOST_TOKENS)
    watermark: float = Field(default=0.0, ge=0, lt=1)
    watermark_rule: Literal["always", "beside-running"] = "always"
    prefix_caching: bool = False
    prefix_match: Literal["block", "token"] = "block"
    eviction: Literal["contents-last", "freed-first", "empty-first", "radix"] = "contents-last"
    preemption: Literal["recompute", "swap"] = "recompute"
    host_memory_gib: float = Field(default=0.0, ge=0, le=1e9)


class HardwareDefaults(Section):
    """What differs on certain devices: scheduler defaults that the engine changes, and the servers they come with."""

    prefixes: list[str] = Field(default_factory=list, description="Beginnings of hardware profile names. Empty: whatever the name.")
    from_gib: float = Field(default=0.0, ge=0, description="For devices with at least so much memory.")
    below_gib: float | None = Field(default=None, gt=0, description="For devices with less memory.")
    scheduler: dict[str, Any] = Field(default_factory=dict)
    host_speed: float = Field(
        default=1.0, ge=1e-3, le=1e3, description="CPU speed of the server, relative to that of `host`; its seconds are divided by it."
    )
    kernel_backend: str | None = Field(default=None, description="Measurements preferred on these devices instead of the profile's own.")

    @model_validator(mode="after")
    def _some_condition(self) -> HardwareDefaults:
        if not self.prefixes and not self.by_memory:
            raise ValueError("state which devices: prefixes, from_gib or below_gib")
        return self

    @property
    def by_memory(self) -> bool:
        """Whether the device's memory decides."""
        return self.from_gib > 0 or self.below_gib is not None

    def holds(self, hardware: str, memory_bytes: float | None) -> bool:
        """Whether it is for this device; a rule by memory is for none whose memory is not known."""
        if self.prefixes and not hardware.startswith(tuple(self.prefixes)):
            return False
        if not self.by_memory:
            return True
        gib = math.nan if memory_bytes is None else memory_bytes / 2**30
        return gib >= self.from_gib and (self.below_gib is None or gib < self.below_gib)


class EngineProfile(Section):
    """One serving engine in one range of versions."""

    schema_version: int
    name: str
    engine: str = Field(description="The engine's own name.")
    versions: str = Field(description="Versions that the defaults were read from.")
    description: str
    vendors: list[str] = Field(default_factory=list, description="Makers of the devices that it runs on. Empty: not known, any.")
    held_out: HeldOut | None = Field(
        default=None, description="Errors on runs that the overheads were not learned from, written by `simserve fit-engine`."
    )
    sources: list[str] = Field(min_length=1)
    scheduler: SchedulerSection
    on_hardware: list[HardwareDefaults] = Field(default_factory=list)
    kv: KvDefaults
    memory: MemorySection = Field(default_factory=MemorySection)
    speculation: EngineSpeculation = Field(default_factory=EngineSpeculation)
    ends_late: bool = Field(
        default=False,
        description="With `request_path.steps_ahead`: a request that has ended keeps its sequence slot and its KV blocks in the plan that"
        " was made before its end.",
    )
    dp_shares_step_tokens: bool = Field(
        default=False, description="Whether attention replicas divide the scheduler's token budget among them; otherwise each has it whole."
    )
    kv_bits_by_weights: dict[str, Annotated[float, Field(gt=0, le=16)]] = Field(
        default_factory=dict,
        description="Weight format -> bits of a cached element, where the engine takes the cache's format from the checkpoint.",
    )
    cuda_graph_sizes: GraphSizes = Field(description="Batch sizes captured for decode-only steps; empty = no CUDA graphs.")
    cuda_graphs_hold: Literal["tokens", "requests"] = Field(
        default="tokens",
        description="What these sizes count where drafted tokens are verified: tokens, or requests of the same number of draft tokens.",
    )
    host: HostSection
    request_path: RequestPathSection = Field(default_factory=RequestPathSection)
    jitter: JitterSection | None = Field(default=None, description="How step times vary, where that was learned from measured gaps.")
    kernel_backend: str | None = Field(
        default=None, description="Engine whose kernel measurements are preferred, where a profile has several."
    )
    flags: dict[str, str] = Field(description="The engine's flag -> the key of an instance that it sets.")
    flag_rules: dict[str, FlagRule] = Field(default_factory=dict, description="Flags whose values are put into the experiment's words.")

    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @property
    def ignored(self) -> tuple[str, ...]:
        """What the file says that does not count, a sentence each."""
        return self._ignored

    @property
    def overheads(self) -> dict[str, Any]:
        """What is learned from measured runs, as plain values: seconds of the host and of a request's path, speeds of servers."""
        speeds = [rule.model_dump(exclude={"scheduler", "kernel_backend"}) for rule in self.on_hardware if rule.host_speed != 1.0]
        parts = {name: getattr(self, name).model_dump(exclude_defaults=True) for name in ("host", "request_path")}
        return {**parts, "host_speed": speeds}

    @property
    def verdict(self) -> Verdict:
        """Whether the overheads are validated, by the rule of `config.held_out`, and the runs and the error that say so."""
        return verdict_on(self.held_out, self.overheads)

    @property
    def validated(self) -> bool:
        """Whether the overheads held on enough runs that they were not learned from."""
        return self.verdict.validated

    def all_flags(self) -> dict[str, str]:
        """Every flag and the key that it sets."""
        return self.flags | {flag: rule.sets for flag, rule in self.flag_rules.items()}

    def flag_names(self) -> set[str]:
        """What may stand beside `name` in an experiment's `engine` mapping."""
        heads = {flag.split(".")[0] for flag in (*self.flags, *self.flag_rules)}
        return {*self.flags, *self.flag_rules, *heads, *OWN_KEYS}

    @property
    def looks_at_memory(self) -> bool:
        """Whether some default depends on the device's memory."""
        return bool(self.memory.reserve) or any(rule.by_memory for rule in self.on_hardware)

    def fraction(self, memory_bytes: float | None, *, devices: int, dp: int, step_tokens: int) -> float:
        """The memory fraction where none is stated: the engine's rule, else `kv.memory_utilisation`. `devices` is tp x pp x dp."""
        graph = self.cuda_graph_sizes[-1] if self.cuda_graph_sizes else 0
        found = None
        if memory_bytes is not None:
            found = self.memory.fraction(memory_bytes, devices=devices, dp=dp, step_tokens=step_tokens, graph_requests=graph)
        return self.kv.memory_utilisation if found is None else found

    def is_for(self, vendor: str) -> bool:
        """Whether the engine runs on devices of this maker, as far as is known."""
        return not self.vendors or vendor.casefold() in (known.casefold() for known in self.vendors)

    def foreign_to(self, hardware: str, vendor: str) -> list[str]:
        """A sentence where the engine does not run on devices of this maker."""
        if self.is_for(vendor):
            return []
        is_of = f"Engine profile {self.name} is of {' and '.join(self.vendors)} devices, and {hardware} is of {vendor}"
        others = ", ".join(names_for(vendor)) or "none"
        return [f"{is_of}: its host times and defaults are not those of an engine there. Profiles for {vendor}: {others}."]

    def default_of(self, key: str) -> str:
        """The profile's own value of an instance key such as `scheduler.max_seqs`; empty when the policy or the model decides."""
        section, _, name = key.partition(".")
        if section == "parallel":
            return "1"
        if key == "kv.memory_utilisation" and self.memory.reserve:
            return "by device memory"
        values = self.scheduler.parameters if section == "scheduler" else self.kv.model_dump() if section == "kv" else {}
        return f"{values[name]}" if name in values else ""


class EngineOverrides(OpenSection):
    """The profile's own parts that an experiment may replace directly."""

    host: HostSection | None = None
    request_path: RequestPathSection | None = None
    jitter: JitterChoice | None = None
    cuda_graph_sizes: GraphSizes | None = None


OWN_KEYS = tuple(EngineOverrides.model_fields)


def names() -> list[str]:
    """The bundled profiles."""
    return list(_names(FOLDER.stat().st_mtime_ns))


@functools.lru_cache(maxsize=1)
def _names(modified_ns: int) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def names_for(vendor: str) -> list[str]:
    """The bundled profiles of engines that are made for devices of this maker."""
    return [name for name in names() if (profile := load_engine(name)).vendors and profile.is_for(vendor)]


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
    document = read_values(path)
    found = document.data.get("schema_version")
    if found != SCHEMA_VERSION:
        raise ConfigError(f"{path}: schema_version {shown(found)}; this simserve reads version {SCHEMA_VERSION}")
    data = {key: value for key, value in document.data.items() if key != "validated"}
    profile, mistakes = messages.check(EngineProfile, data, document)
    messages.fail(str(path), mistakes)
    assert isinstance(profile, EngineProfile)
    if path.parent == FOLDER:
        profile = profile.model_copy(update={"held_out": recorded(path.stem)})
    if "validated" in document.data:
        why = f"it follows from held-out runs ({profile.verdict.words}), by the rule of docs/serving-validation.md"
        profile._ignored = (f"{path}: `validated` is ignored: {why}",)
    return profile


def scheduler_defaults(profile: EngineProfile, hardware: str, memory_bytes: float | None = None) -> Mapping[str, Any]:
    """Parameters of the profile's scheduler on a device of that name and memory, `policy` left out."""
    defaults = profile.scheduler.parameters
    for rule in profile.on_hardware:
        if rule.holds(hardware, memory_bytes):
            defaults = defaults | rule.scheduler
    return defaults


def kernel_backend(profile: EngineProfile, hardware: str) -> str | None:
    """Whose kernel measurements the engine prefers on a device of that name."""
    stated = [rule.kernel_backend for rule in profile.on_hardware if rule.kernel_backend and rule.holds(hardware, None)]
    return stated[-1] if stated else profile.kernel_backend


def host_speed(profile: EngineProfile, hardware: str) -> float:
    """CPU speed of a device's server, relative to the server that the profile's host seconds were measured on."""
    speed = 1.0
    for rule in profile.on_hardware:
        if rule.holds(hardware, None):
            speed *= rule.host_speed
    return speed
