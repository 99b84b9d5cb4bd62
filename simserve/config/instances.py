"""One instance group with nothing left open: the experiment's words over the engine's flags over the engine profile's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from simserve import hints
from simserve.config import engine_flags, engine_profile, python_names, speculation
from simserve.config.engine_profile import EngineProfile
from simserve.config.hardware_file import device_memory_bytes
from simserve.config.schema import InstanceSection, KvSection, ParallelSection
from simserve.contracts import PolicyParams, SchedulerParams, capable
from simserve.errors import nearest
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.words import clipped
from simserve.files.yaml_text import Document, KeyPath, kind_of
from simserve.policies import registry

if TYPE_CHECKING:
    from simserve.config.provisioning_section import StartSection
    from simserve.config.speculation_section import SpeculationSection


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """`count` equal instances, everything explicit."""

    count: int
    max_count: int
    boot_s: float
    start: StartSection | None
    """The stages of `boot_s`; None: it is stated as it is."""
    parallel: ParallelSection
    hardware: str
    role: str
    policy: str
    params: SchedulerParams
    order: str
    kv: KvSection
    max_model_len: int | None
    stated_budget: str = ""
    """Where the user wrote the policy's max_num_batched_tokens; "" = it is the engine's default, which adapts itself."""
    speculation: SpeculationSection | None = None
    """None: it does not speculate."""

    def resolved(self) -> dict[str, Any]:
        """As an element of `cluster.instances`."""
        return {
            "count": self.count,
            **({"max_count": self.max_count, **self._start()} if self.max_count > self.count else {}),
            "parallel": self.parallel.model_dump(),
            "hardware": self.hardware,
            "role": self.role,
            "scheduler": {"policy": self.policy, **self.params.model_dump(mode="json")},
            "order": self.order,
            "kv": self.kv.model_dump(exclude_none=True),
            **({} if self.max_model_len is None else {"max_model_len": self.max_model_len}),
            **({} if self.speculation is None else {"speculation": self.speculation.resolved()}),
        }

    def _start(self) -> dict[str, Any]:
        return {"boot_s": self.boot_s} if self.start is None else {"start": self.start.model_dump(exclude_none=True)}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a policy's parameters."""

    value: Any
    path: KeyPath | None
    """Where the user wrote it; None = a default of the engine profile."""
    rule: str = ""
    """The flag it comes from, where that flag has a rule of its own and may not be contradicted."""


def complete(
    raw: Mapping[str, Any], index: int, engine: EngineProfile, document: Document, folder: Path
) -> tuple[InstanceGroup | None, list[Mistake]]:
    """The group at `cluster.instances[index]`, whose text is `raw`, or the mistakes in what only its policy and engine can judge.

    `folder` is where a hardware profile's path starts: some engines' defaults depend on the device's memory.
    """
    prefix: KeyPath = ("cluster", "instances", index)
    experiment = document.data
    hardware = raw.get("hardware") or experiment.get("hardware")
    memory = device_memory_bytes(hardware, folder) if engine.looks_at_memory else None
    flags, mistakes = _flags(engine, document)
    policy, written = _scheduler(raw, engine, prefix)
    if policy not in registry.scheduler_names():
        found = kind_of(policy) if not isinstance(policy, str) else f"'{clipped(policy)}'"
        text = f"unknown policy {found}{nearest(str(policy), registry.scheduler_names())}"
        if python_names.is_from_python(policy):
            text = python_names.lost(policy, "scheduler")
        return None, [*mistakes, messages.at(document, (*prefix, "scheduler", "policy"), text)]
    of_flags = {key[1]: speculation.Stated(one.value, one.path or (), True) for key, one in flags.items() if key[0] == "speculation"}
    stated = speculation.merged(raw, prefix, of_flags, document)
    named = f"{engine.engine} {engine.versions} (profile {engine.name})"
    speculates, wrong = speculation.complete(stated, engine.speculation, named, prefix, document, folder)
    mistakes += wrong
    settings: dict[str, Setting] = {}
    if policy == engine.scheduler.policy:
        defaults = engine_profile.scheduler_defaults(engine, Path(str(hardware)).stem, memory)
        if speculates is not None and engine.speculation.max_seqs is not None:
            defaults = {**defaults, "max_seqs": engine.speculation.max_seqs}
        settings.update({key: Setting(value, None) for key, value in defaults.items()})
    settings.update({key[1]: setting for key, setting in flags.items() if key[0] == "scheduler"})
    settings.update(written)
    params, wrong = policy_params(policy, _scheduler_params(policy), settings, document)
    mistakes += wrong
    for key, setting in flags.items():
        if key[0] == "scheduler" and setting.rule:
            mistakes += engine_flags.against(raw, key, setting.value, setting.rule, prefix, document)
    order = raw.get("order", "fcfs")
    if isinstance(order, str) and order not in registry.order_names():
        text = f"unknown order '{clipped(order)}'{nearest(order, registry.order_names())}"
        mistakes.append(messages.at(document, (*prefix, "order"), text))
    if mistakes or params is None:
        return None, mistakes

    section = InstanceSection.model_validate(dict(raw))
    if section.max_count is not None and section.max_count < section.count:
        text = f"found {section.max_count}, expected at least count, which is {section.count}"
        return None, [messages.at(document, (*prefix, "max_count"), text)]
    if section.start is not None and "boot_s" in section.model_fields_set:
        text = "boot_s and start both state how long a start takes; give one of them"
        return None, [messages.at(document, (*prefix, "boot_s"), text)]
    kv = engine.kv.model_dump() | {key[1]: s.value for key, s in flags.items() if key[0] == "kv"} | section.kv.model_dump(exclude_none=True)
    if section.kv.blocks is not None or (("kv", "blocks") in flags and section.kv.memory_utilisation is None):
        kv.pop("memory_utilisation", None)
    else:
        kv.pop("blocks", None)
    parallel, wrong = _parallel(raw, section, flags, prefix, document)
    if wrong:
        return None, wrong
    if "memory_utilisation" in kv and section.kv.memory_utilisation is None and ("kv", "memory_utilisation") not in flags:
        kv["memory_utilisation"] = engine.fraction(
            memory, devices=parallel.tp * parallel.pp * parallel.dp, dp=parallel.dp, step_tokens=params.step_tokens(0)
        )
    if kv["preemption"] == "swap" and not kv["host_memory_gib"]:
        return None, [messages.at(document, (*prefix, "kv", "preemption"), "swap needs host_memory_gib above 0, found 0")]
    length = flags.get(("max_model_len",))
    if parallel.pp > 1 and capable(registry.scheduler_class(policy), "single_stage"):
        written_here = "pp" in section.parallel.model_fields_set
        place: KeyPath = (*prefix, "parallel", "pp") if written_here else flags[("parallel", "pp")].path or prefix
        text = f"found {parallel.pp}, but policy {policy} works on one pipeline stage only; use pp 1 (tp spreads it over devices)"
        return None, [messages.at(document, place, text)]
    group = InstanceGroup(
        count=section.count,
        max_count=section.max_count or section.count,
        boot_s=section.boot_s,
        start=section.start,
        parallel=parallel,
        hardware=str(hardware),
        role=section.role,
        policy=policy,
        params=params,
        order=section.order,
        kv=KvSection(**kv),
        max_model_len=section.max_model_len if section.max_model_len is not None else (length.value if length else None),
        stated_budget=document.place(budget.path) if (budget := settings.get("max_num_batched_tokens")) and budget.path else "",
        speculation=speculates,
    )
    if speculates is not None:
        mistakes = speculation.refused(speculates, stated, engine.speculation, named, group.resolved(), prefix, document)
    return (None if mistakes else group), mistakes


def _flags(engine: EngineProfile, document: Document) -> tuple[dict[tuple[str, ...], Setting], list[Mistake]]:
    """The engine's flags that the user set, by the instance's key; each value is checked against that key's own rule."""
    section = document.data.get("engine")
    if not isinstance(section, Mapping):
        return {}, []
    found: dict[tuple[str, ...], Setting] = {}
    mistakes: list[Mistake] = []
    try:
        stated = list(engine_flags.laid_out(section, engine.all_flags()))
    except ValueError as problem:
        flag, text = problem.args
        return {}, [messages.at(document, ("engine", flag), text)]
    for flag, value, path in stated:
        if flag == "name" or flag in engine_profile.OWN_KEYS:
            continue
        rule, written = engine.flag_rules.get(flag), value
        if rule is not None:
            if rule.of_experiment:
                continue  # written under `model` or `engine` when the experiment was loaded
            try:
                value = rule.translated(flag, value)
            except ValueError as problem:
                mistakes.append(messages.at(document, path, str(problem)))
                continue
            if value is None:
                continue
            if rule.inside_tp and value != 1:
                found[("parallel", engine_flags.INSIDE_TP)] = Setting(True, path)
            if value == engine_flags.OF_DP:
                continue
        elif flag not in engine.flags:
            text = f"{engine.name} has no flag '{clipped(flag)}'{hints.unknown_key(flag, engine.flag_names(), 'engine')}"
            mistakes.append(messages.at(document, path, text, of_key=True))
            continue
        key = tuple((rule.sets if rule else engine.flags[flag]).split("."))
        if key in found and found[key].value != value:
            earlier = messages.dotted(found[key].path or ())
            mistakes.append(messages.at(document, path, f"found {kind_of(written)}, but {earlier} sets the same thing; give one of them"))
            continue
        found[key] = Setting(value, path, flag if rule else "")
        if key[0] != "scheduler" and value not in (engine_flags.ALL_RANKS, engine_flags.OF_TP):
            mistakes += _misfit(key, value, path, document)
    return found, mistakes


def _misfit(key: tuple[str, ...], value: Any, path: KeyPath, document: Document) -> list[Mistake]:
    """A flag's value judged by the instance key that it stands for, reported at the flag."""
    nested: Any = value
    for part in reversed(key):
        nested = {part: nested}
    view = Document(document.source, nested, {key: document.place(path)}, {})
    _, mistakes = messages.check(InstanceSection, nested, view)
    return [Mistake(m.place, messages.dotted(path), m.text) for m in mistakes]


def _parallel(
    raw: Mapping[str, Any], section: InstanceSection, flags: Mapping[tuple[str, ...], Setting], prefix: KeyPath, document: Document
) -> tuple[ParallelSection, list[Mistake]]:
    """The layout: what the instance states over the engine's flags, except where a flag may not be contradicted."""
    given = {key[1]: s for key, s in flags.items() if key[0] == "parallel"}
    inside = given.get(engine_flags.INSIDE_TP)
    place = (inside and inside.path) or prefix
    try:
        values = engine_flags.inside({key: s.value for key, s in given.items() if s.value != engine_flags.ALL_RANKS})
    except ValueError as problem:
        return section.parallel, [messages.at(document, place, str(problem))]
    layout = ParallelSection(**values | section.parallel.model_dump(exclude_unset=True))
    mistakes: list[Mistake] = []
    for key in ("tp", "dp") if inside else ():
        mistakes += engine_flags.against(raw, ("parallel", key), values[key], messages.dotted(place[1:]), prefix, document)
    for key, setting in given.items():
        if setting.rule and not (inside and key == "dp"):
            value = layout.tp * layout.dp if setting.value == engine_flags.ALL_RANKS else setting.value
            mistakes += engine_flags.against(raw, ("parallel", key), value, setting.rule, prefix, document)
            layout = layout.model_copy(update={key: value})
    return layout, mistakes


def _scheduler(raw: Mapping[str, Any], engine: EngineProfile, prefix: KeyPath) -> tuple[Any, dict[str, Setting]]:
    section = raw.get("scheduler")
    keys = section if isinstance(section, Mapping) else {}
    policy = keys.get("policy") or engine.scheduler.policy
    return policy, {key: Setting(value, (*prefix, "scheduler", key)) for key, value in keys.items() if key != "policy"}


def _scheduler_params(policy: str) -> type[SchedulerParams]:
    found: type[SchedulerParams] = registry.scheduler_class(policy).Params
    return found


_Params = TypeVar("_Params", bound=PolicyParams)


def policy_params(
    policy: str,
    params_class: type[_Params],
    settings: Mapping[str, Setting],
    document: Document,
    beside: frozenset[str] = frozenset(),
    section: KeyPath = (),
) -> tuple[_Params | None, list[Mistake]]:
    """A policy's own parameters, each mistake reported where the user wrote that value, of one that is missing in `section`. `beside`: the
    section's other keys."""
    values = {key: setting.value for key, setting in settings.items()}
    view = Document(document.source, values)
    for key, setting in settings.items():
        view.places[(key,)] = document.place(setting.path) if setting.path else f"defaults of policy {policy}"
        if setting.path:
            view.key_places[(key,)] = document.place(setting.path, of_key=True)
    params, found = messages.check(params_class, values, view)
    mistakes = []
    for mistake in found:
        origin = settings.get(mistake.key.split(".")[0])
        path = messages.dotted(origin.path) if origin and origin.path else mistake.key
        text = mistake.text
        if section and origin is None and mistake.key in params_class.model_fields:
            mistakes.append(messages.at(document, (*section, mistake.key), text))  # one that is missing
            continue
        if not path and (together := next((setting.path[:-1] for setting in settings.values() if setting.path), None)):
            mistakes.append(messages.at(document, together, text))  # what two parameters say together
            continue
        if text.startswith("unknown key"):
            known = {*params_class.model_fields, *beside}
            text = f"policy {policy} has no parameter '{clipped(mistake.key)}'{hints.unknown_key(mistake.key, known, 'scheduler')}"
        mistakes.append(Mistake(mistake.place, path, text))
    assert params is None or isinstance(params, params_class)
    return params, mistakes
