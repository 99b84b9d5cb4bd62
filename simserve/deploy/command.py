"""A command line of an engine: what starts one instance, as arguments and as text for a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from simserve.deploy.flag_list import FlagList

_INDENT = "  "
_NARROWEST = 40


@dataclass(frozen=True)
class Command:
    """What starts each of `count` equal instances.

    most       instances that an autoscaler may start, `count` without one
    devices    of one instance, over `nodes` nodes
    argv       an argument that is `$NAME` is a variable, for the user to set: name -> what it is
    env        environment variables that it needs
    files      name -> text of the files that it reads
    """

    name: str
    role: str
    count: int
    most: int
    hardware: str
    devices: int
    nodes: int
    argv: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How many of them there are, of which kind, on what."""
        kind = "" if self.role == "mixed" else f"{self.role} "
        number = f"{self.count}" if self.most == self.count else f"up to {self.most}"
        each = f"{self.devices} x {self.hardware}" + (f" over {self.nodes} nodes" if self.nodes > 1 else "")
        return f"{number} {kind}instance{'s' if self.most > 1 else ''}, {'each ' if self.most > 1 else ''}on {each}"

    def text(self, width: int = 100) -> str:
        """For a shell, in lines of at most `width` columns where no single argument is longer."""
        words = [*(f"{name}={self._quoted(value)}" for name, value in self.env.items())]
        return folded([*words, *self._groups()], width)

    def _groups(self) -> Iterator[str]:
        """What stays on one line: the program with the model, then each flag with its value."""
        group: list[str] = []
        for word in self.argv:
            if word.startswith("--") and group:
                yield " ".join(group)
                group = []
            group.append(self._quoted(word))
        if group:
            yield " ".join(group)

    def _quoted(self, word: str) -> str:
        if word.startswith("$") and word[1:] in self.variables:
            return f'"${{{word[1:]}:?{self.variables[word[1:]]}}}"'
        return shlex.quote(word)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "argv": list(self.argv)}


def read_command(data: Mapping[str, Any]) -> Command:
    """The inverse of `as_dict`."""
    return Command(**{**data, "argv": tuple(str(word) for word in data["argv"])})


def folded(groups: Sequence[str], width: int) -> str:
    """Groups of words on as few lines as fit, each line but the last continued with a backslash."""
    width = max(width, _NARROWEST)
    lines = [""]
    for group in groups:
        room = width - len(" \\")
        if lines[-1] and len(lines[-1]) + 1 + len(group) > room:
            lines.append(_INDENT + group)
        else:
            lines[-1] = f"{lines[-1]} {group}" if lines[-1] else group
    return " \\\n".join(lines)


def arguments(listed: FlagList, flags: Mapping[str, Any]) -> list[str]:
    """Flags of the command line in the engine's spelling; parts of a mapping together, as JSON. Those of the options file are left out."""
    words: list[str] = []
    done: set[str] = set()
    for flag, value in flags.items():
        entry = listed.flags[flag]
        head, _, part = flag.partition(".")
        if entry.within is not None or head in done:
            continue
        if entry.positional:
            words.insert(0, str(value))
        elif part:
            done.add(head)
            whole = {name.partition(".")[2]: one for name, one in flags.items() if name.startswith(f"{head}.")}
            words += [_spelled(listed, head), json.dumps(whole)]
        elif entry.kind == "switch":
            words += _switch(listed, flag, bool(value))
        else:
            words += [_spelled(listed, flag), json.dumps(value) if entry.kind == "json" else f"{value}"]
    return words


def _switch(listed: FlagList, flag: str, on: bool) -> list[str]:
    if on:
        return [_spelled(listed, flag)]
    return [_spelled(listed, f"no_{flag}")] if listed.flags[flag].off else []


def _spelled(listed: FlagList, flag: str) -> str:
    return "--" + (flag.replace("_", "-") if listed.spelling == "dashes" else flag)


def options(listed: FlagList, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The options file's content: flags that belong there, nested."""
    found: dict[str, Any] = {}
    for flag, value in flags.items():
        if listed.flags[flag].within is None:
            continue
        node = found
        *path, last = flag.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return found


def yaml_of(content: Any) -> str:
    """YAML in the order of the mapping, what occurs twice written twice."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(content, Dumper=Plain, sort_keys=False, width=120)
