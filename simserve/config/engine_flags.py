"""An engine's own flags put into an experiment's words: which key a flag sets, to which value, and what contradicts it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field

from simserve.config.engine_speculation import Table, by_batch
from simserve.config.section import Section
from simserve.errors import nearest
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.words import shown
from simserve.files.yaml_text import Document, KeyPath, kind_of

ALL_RANKS = "tp x dp"
"""A value of a flag's rule: as many as the tensor-parallel ranks of all attention replicas (vLLM: enable_expert_parallel has no degree of
its own, vllm/config/parallel.py)."""

INSIDE_TP = "inside tp"
"""The key under `parallel` that says: tp counts the ranks of all attention replicas, and is divided by dp."""

OF_DP, OF_TP = "dp", "tp"
"""Values of a rule that is `inside_tp`: there are as many replicas as another flag says (SGLang before 0.5.23: enable_dp_attention beside
dp_size, server_args.py), or one on each rank (TensorRT-LLM: enable_attention_dp, tensorrt_llm/mapping.py)."""


class FlagRule(Section):
    """A flag whose values are not the experiment's. Such a flag and the key that it sets may not say different things."""

    sets: str = Field(description="The key of an instance, of `model` or of `engine` (`engine.host...`) that it sets.")
    values: dict[str, Any] = Field(
        default_factory=dict, description="What the key becomes for each value of the flag, null = as without the flag. Empty: as written."
    )
    refused: dict[str, str] = Field(default_factory=dict, description="Values that the engine does not honour, and why.")
    table: Table | None = Field(
        default=None, description="How it states numbers of drafted tokens by batch size (config/engine_speculation.py); for by_batch."
    )
    inside_tp: bool = Field(
        default=False, description="It is about attention replicas inside the tensor-parallel ranks: these are tp x dp, not tp."
    )

    @property
    def of_experiment(self) -> bool:
        """Whether it sets a key of the experiment's `model` or `engine` and not of an instance."""
        return self.sets.startswith(("model.", "engine."))

    def translated(self, flag: str, value: Any) -> Any:
        """The key's value. Raises ValueError for a value that the engine does not take."""
        if self.table is not None:
            return by_batch(self.table, value)
        word = str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, str | int) else ""
        if word in self.refused:
            raise ValueError(f"found {shown(value)}: {self.refused[word]}")
        if not self.values:
            return value
        quoted = isinstance(value, str) and word in ("true", "false")
        if word not in self.values or quoted:
            allowed = [*self.values, *self.refused]
            raise ValueError(f"found '{word}', expected it without quotes" if quoted else f"found {shown(value)}{nearest(word, allowed)}")
        return self.values[word]


def laid_out(section: Mapping[str, Any], known: Iterable[str]) -> Iterator[tuple[str, Any, KeyPath]]:
    """(flag, value, where it stands) for each flag of an experiment's `engine`. Flags that hold a mapping, as vLLM's
    `speculative_config: {method: eagle3}` or the JSON text of its command line, are given part by part as `speculative_config.method`;
    null is as without the flag.

    Raises ValueError, with the flag, for a text that is no JSON, and for what is no mapping.
    """
    known = set(known)
    heads = {flag.split(".")[0] for flag in known if "." in flag}
    for flag, value in section.items():
        parts = value
        if flag in heads and isinstance(value, str):
            try:
                parts = json.loads(value)
            except json.JSONDecodeError as problem:
                raise ValueError(flag, f"found {shown(value)}, expected a mapping, or one as JSON ({problem.msg})") from problem
        if flag in heads and isinstance(parts, Mapping):
            yield from ((f"{flag}.{part}", one, ("engine", flag, part)) for part, one in parts.items())
        elif flag in heads and parts is None:
            continue
        elif flag in heads and flag not in known:
            raise ValueError(flag, f"found {shown(value)}, expected a mapping, or one as JSON")
        else:
            yield flag, value, ("engine", flag)


def experiment_flags(document: Document, rules: Mapping[str, FlagRule]) -> tuple[Document, list[Mistake]]:
    """The document with an engine's flags that concern the model or the engine itself written under `model` and `engine`, as if the
    experiment said so itself."""
    changed, mistakes = document, list[Mistake]()
    for flag, rule, value, place in _stated(document, rules):
        if not rule.of_experiment:
            continue
        try:
            new = rule.translated(flag, value)
        except ValueError as problem:
            mistakes.append(messages.at(document, place, str(problem)))
            continue
        if new is None:
            continue
        if changed is document:
            changed = Document(document.source, copy.deepcopy(document.data), dict(document.places), dict(document.key_places))
        mistakes += _write(changed, place, value, rule.sets, new)
    return changed, mistakes


def _stated(document: Document, rules: Mapping[str, FlagRule]) -> Iterator[tuple[str, FlagRule, Any, KeyPath]]:
    section = document.data.get("engine")
    try:
        flags = list(laid_out(section, rules)) if isinstance(section, Mapping) else []
    except ValueError:
        return  # said where the instances' flags are read
    for flag, value, place in flags:
        if flag in rules:
            yield flag, rules[flag], value, place


def _write(document: Document, place: KeyPath, written: Any, key: str, value: Any) -> list[Mistake]:
    """Sets one key below `model` or `engine`; a mistake where the experiment states another value for it."""
    path: KeyPath = tuple(key.split("."))
    node: Any = document.data
    if path[0] == "model" and isinstance(node.get("model"), str):
        node["model"] = {"name": node["model"]}
        if ("model",) in document.places:
            document.places[("model", "name")] = document.places[("model",)]
    for part in path[:-1]:
        if not isinstance(node, dict) or not isinstance(node.setdefault(part, {}), dict):
            return []  # the schema's own complaint says it
        node = node[part]
    stated = node.get(path[-1])
    if stated is not None and stated != value:
        made = f"{value:g}" if isinstance(value, int | float) else shown(value)
        text = f"{shown(written)} sets {key} to {made}, and the experiment states {shown(stated)}; give one of them"
        return [messages.at(document, place, text)]
    node[path[-1]] = value
    document.places.setdefault(path, document.place(place))
    return []


def against(raw: Mapping[str, Any], key: tuple[str, ...], value: Any, flag: str, prefix: KeyPath, document: Document) -> list[Mistake]:
    """A mistake where the instance `raw`, found at `prefix`, states another value for a key that a flag with a rule sets."""
    node: Any = raw
    for part in key:
        if not isinstance(node, Mapping) or part not in node:
            return []
        node = node[part]
    if node == value or node is None:
        return []
    text = f"found {kind_of(node)}, but the engine's flag '{flag}' makes it {shown(value)}; give one of them"
    return [messages.at(document, (*prefix, *key), text)]


def inside(given: dict[str, Any]) -> dict[str, Any]:
    """Degrees of parallelism as an experiment counts them, from flags of which one counts attention replicas inside tp. Raises ValueError
    where these do not divide the ranks."""
    values = {key: value for key, value in given.items() if key != INSIDE_TP}
    if INSIDE_TP not in given:
        return values
    tp = int(values.get("tp", 1))
    dp = tp if values.get("dp") == OF_TP else int(values.get("dp", 1))
    if tp % dp:
        raise ValueError(f"found {tp} tensor-parallel ranks, which {dp} attention replicas do not divide")
    return {**values, "tp": tp // dp, "dp": dp}
