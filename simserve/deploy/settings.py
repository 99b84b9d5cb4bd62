"""The settings of an instance group as its engine's flags, by the engine profile's own table; and what has no flag there, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simserve.config import engine_profile
from simserve.config.engine_flags import FlagRule
from simserve.config.engine_profile import EngineProfile
from simserve.config.engine_speculation import Table
from simserve.config.experiment import Experiment
from simserve.config.hardware_file import device_memory_bytes
from simserve.config.instances import InstanceGroup
from simserve.deploy import ranks
from simserve.deploy.flag_list import FlagList
from simserve.deploy.written import Written
from simserve.files.words import shown
from simserve.policies import registry

_OF_THE_LOAD = ("speculation.acceptance",)
"""What an experiment states of its requests, which no engine is told."""

BUDGET_PARAMETERS = ("max_num_batched_tokens", "token_budget", "chunked_prefill_size")
"""What policies call the tokens of a step."""

_OF_CHECKPOINTS = ("eagle", "eagle3")
"""Ways of speculation whose draft is a trained head in a checkpoint of its own."""


def written(experiment: Experiment, group: InstanceGroup, listed: FlagList, version: str) -> Written:
    """The flags of one instance of a group. The profile is the experiment's; `model`, ports, roles and nodes are not in it."""
    found = Written(listed, version, experiment.engine)
    ranks.put(found, group.parallel)
    method = group.speculation.method or "" if group.speculation is not None else ""
    settings, defaults = dict(_settings(experiment, group)), _defaults(experiment, group)
    for key, value in settings.items():
        if key.startswith(("parallel.", "scheduler.policy", *_OF_THE_LOAD)):
            continue
        flag = found.for_key(_own_key(found, group, key), method)
        if flag is None:
            if value != defaults.get(key) and not (key == "order" and value in listed.orders):
                found.notes.append(_without(found, key, value))
            continue
        if value is None or (value == defaults.get(key) and not listed.flags[flag].always):
            continue
        try:
            found.flags[flag] = _as_written(found, flag, value, settings)
        except ValueError as problem:
            found.notes.append(f"{key} {shown(value)}: {problem}")
    if group.policy != experiment.engine.scheduler.policy:
        found.notes.append(
            f"scheduler.policy {group.policy}: {found.engine} has only its own scheduler ({experiment.engine.scheduler.policy} here)"
        )
    if group.order in listed.orders:
        found.put(listed.orders[group.order], f"order {group.order}")
    found.put(_of_profile(listed, experiment.engine), f"profile {experiment.engine.name}")
    if method in _OF_CHECKPOINTS and group.speculation is not None and group.speculation.draft is None:
        found.notes.append(f"speculation {method}: name a head that was trained for this model")
    return found


def _own_key(found: Written, group: InstanceGroup, key: str) -> str:
    """The key of the engine's own scheduler for the token budget of another policy."""
    own = found.profile.scheduler.policy
    if own is None or group.policy == own or key.removeprefix("scheduler.") not in BUDGET_PARAMETERS:
        return key
    known = registry.scheduler_class(own).Params.model_fields
    return next((f"scheduler.{name}" for name in BUDGET_PARAMETERS if name in known), key)


def _settings(experiment: Experiment, group: InstanceGroup) -> Iterator[tuple[str, Any]]:
    """(key, value) of everything that an instance has, by dotted key."""
    resolved = group.resolved()
    model = experiment.spec.model_section
    yield "model.quantisation", model.quantisation
    for key, value in model.options.changed().items():
        yield f"model.options.{key}", value
    if group.speculation is not None:
        resolved["speculation"] = {"top_k": 1, "verify_tokens": (group.speculation.tokens or 0) + 1, **resolved["speculation"]}
    for key, value in _of_engine(experiment.engine).items():
        yield key, value
    for section in ("parallel", "scheduler", "kv", "speculation"):
        for key, value in resolved.get(section, {}).items():
            yield f"{section}.{key}", value
    yield "max_model_len", group.max_model_len
    yield "order", group.order


def _defaults(experiment: Experiment, group: InstanceGroup) -> dict[str, Any]:
    """What holds without any flag, as far as the profile says it."""
    profile = experiment.engine
    found: dict[str, Any] = {"order": "fcfs", "max_model_len": None, "model.quantisation": None, "speculation.top_k": 1}
    if group.speculation is not None:
        found["speculation.verify_tokens"] = (group.speculation.tokens or 0) + 1
    found |= _of_engine(engine_profile.load_engine(experiment.spec.engine_section.name, experiment.base_dir))
    found |= {f"kv.{key}": value for key, value in profile.kv.model_dump().items()}
    policy = registry.scheduler_class(group.policy)
    stated: Mapping[str, Any] = {}
    if group.policy == profile.scheduler.policy:
        memory = device_memory_bytes(group.hardware, experiment.base_dir) if profile.looks_at_memory else None
        stated = engine_profile.scheduler_defaults(profile, group.hardware, memory)
        if group.speculation is not None and profile.speculation.max_seqs is not None:
            stated = {**stated, "max_seqs": profile.speculation.max_seqs}
    found |= {f"scheduler.{key}": value for key, value in policy.Params(**stated).model_dump(mode="json").items()}
    return found


def _of_engine(profile: EngineProfile) -> dict[str, Any]:
    """What an experiment may change in its engine that a server is told, and not what its host and requests take."""
    found: dict[str, Any] = {"engine.cuda_graph_sizes": list(profile.cuda_graph_sizes)}
    found["engine.host.per_graph_piece_s"] = profile.host.per_graph_piece_s or 0.0
    found["engine.request_path.api_servers"] = profile.request_path.api_servers
    return found


def _of_profile(listed: FlagList, profile: EngineProfile) -> dict[str, Any]:
    entry = listed.profiles.get(profile.name)
    return {} if entry is None else entry.flags


def _without(found: Written, key: str, value: Any) -> str:
    """In words: a setting that this version has no flag for."""
    if key == "model.quantisation":
        return f"quantisation {value}: {found.engine} takes it from the checkpoint; name one that is stored so (--model-name)"
    if key == "engine.cuda_graph_sizes":
        return f"{key}: no flag is written for them; {found.engine} captures its own"
    return f"{key} {shown(value)}: no flag of {found.engine} sets it"


def _as_written(found: Written, flag: str, value: Any, settings: Mapping[str, Any]) -> Any:
    """The flag's own value. Raises ValueError, in words, for one that it does not take."""
    rule = found.profile.flag_rules.get(flag)
    if isinstance(value, float) and found.listed.flags[flag].kind == "number":
        return round(value, 4)
    if rule is None:
        return value
    if rule.table is not None:
        return _table(rule.table, value, settings)
    return _word(found, flag, rule, value)


def _word(found: Written, flag: str, rule: FlagRule, value: Any) -> Any:
    """The rule backwards: the word that becomes this value."""
    if not rule.values:
        return value
    words = [word for word, made in rule.values.items() if made == value and made is not None]
    allowed = found.listed.values(flag, found.version)
    preferred = [word for word in allowed if word in words] if allowed else words
    if not preferred:
        if words or allowed:
            takes = ", ".join(word for word in allowed or words if rule.values.get(word) is not None)
            raise ValueError(f"{flag} of {found.engine} takes {takes or 'nothing like it'}{_of_checkpoint(flag)}")
        raise ValueError(f"{flag} of {found.engine} has no word for it{_refused(rule)}")
    word = preferred[0]
    return {"true": True, "false": False}.get(word, word)


def _of_checkpoint(flag: str) -> str:
    return "; name a checkpoint that is stored so (--model-name), whose format the engine finds itself" if flag == "quantization" else ""


def _refused(rule: FlagRule) -> str:
    return f" ({'; '.join(rule.refused.values())})" if rule.refused else ""


def _table(table: Table, rules: Sequence[Mapping[str, int]], settings: Mapping[str, Any]) -> Any:
    """`speculation.by_batch` as the flag states it. Raises ValueError for rules that it cannot say."""
    if table in ("off-from", "off-above"):
        if len(rules) != 1 or rules[0]["tokens"] != 0:
            raise ValueError("it can only stop drafting above one batch size")
        return rules[0]["from"] - (table == "off-above")
    steps = [*([] if rules[0]["from"] == 1 else [{"from": 1, "tokens": settings["speculation.tokens"]}]), *rules]
    ends = [one["from"] - 1 for one in steps[1:]]
    if table == "ranges":
        most = max(int(settings.get("scheduler.max_seqs", 0)), steps[-1]["from"])
        return [[one["from"], end, one["tokens"]] for one, end in zip(steps, [*ends, most], strict=True)]
    if steps[-1]["tokens"] != 0:
        raise ValueError("it drafts nothing above its last batch size")
    return {end: one["tokens"] for one, end in zip(steps, ends, strict=False)}


def seconds(value: float) -> int:
    """Whole seconds, rounded up: what probes and autoscalers count in."""
    return max(0, math.ceil(value))
