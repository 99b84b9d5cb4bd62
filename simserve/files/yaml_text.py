"""YAML text to plain values, with the place of every key and value, so that an error can name its line.

Scalars follow the YAML 1.2 core schema, not PyYAML's 1.1: `1e-3` is a number, `no` and `12:30` are text, `010` is ten. Underscores
between digits are allowed (`10_000`), as in Python. A repeated key, a custom tag, a second document, nesting without end, aliases that
expand to more than a file could hold and numbers longer than any quantity are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from simserve.errors import ConfigError
from simserve.files.json_text import MOST_DIGITS
from simserve.files.text import read_text
from simserve.files.words import clipped, shown
from simserve.files.yaml_problems import in_words

KeyPath = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_BRANCH = re.compile(r"(int|float|bool|str)\Z|[a-z-]+[-\[(]")  # names of a union's branches: int, constrained-str, literal['none']
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{word: float("inf") for word in (".inf", ".Inf", ".INF", "+.inf")},
    **{word: float("-inf") for word in ("-.inf", "-.Inf", "-.INF")},
    **{word: float("nan") for word in (".nan", ".NaN", ".NAN")},
}
_MAX_NODES = 200_000  # an experiment has hundreds; aliases of aliases can expand to billions
MOST_DEPTH = 60  # ours nest to 10


@dataclass(slots=True)
class Document:
    """A tree of plain values and where each part was written. `places[path]` is 'file:line:column' of the value (or of an override).

    `text` is what it was parsed from where `places` were not kept: they are looked for in it once a mistake asks for one.
    """

    source: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)
    key_places: dict[KeyPath, str] = field(default_factory=dict)
    text: str = ""

    def place(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Where `path` was written; for a path that is not in the text, its nearest parent that is."""
        if self.text:
            again = parse(self.text, self.source)
            self.places, self.key_places, self.text = again.places, again.key_places, ""
        if of_key and path in self.key_places:
            return self.key_places[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.source

    def real_path(self, loc: tuple[str | int, ...]) -> KeyPath:
        """A validator's location without the parts that are not keys of the document (names of union branches)."""
        path: list[str | int] = []
        node: Any = self.data
        for position, part in enumerate(loc):
            if isinstance(node, Mapping) and part in node:
                node = node[part]
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                items: list[Any] = node
                node = items[part]
            elif position + 1 == len(loc) and isinstance(node, Mapping) and not _BRANCH.match(str(part)):
                pass  # the last part may be a key that is missing
            else:
                continue
            path.append(part)
        return tuple(path)


def read(path: Path) -> Document:
    """The document in a file. Raises ConfigError for a file that is absent, unreadable, not text, or not valid YAML."""
    text = read_text(path, ConfigError, what="a YAML file")
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """The document in a text; `source` is how errors name it. The top level must be a mapping."""
    nodes = _compose(text, source)
    if len(nodes) > 1:
        raise ConfigError(f"{_at(source, nodes[1])}: a second document; a file holds one experiment")
    if not nodes or (isinstance(nodes[0], yaml.ScalarNode) and nodes[0].value == ""):
        raise ConfigError(f"{source}: the file is empty")
    if not isinstance(nodes[0], yaml.MappingNode):
        raise ConfigError(
            f"{_at(source, nodes[0])}: found {kind_of(_Builder(source).build(nodes[0], ()))}, expected keys like 'model: ...'"
        )
    builder = _Builder(source)
    data = builder.build(nodes[0], ())
    return Document(source, data, builder.places, builder.key_places)


def scalar(text: str) -> Any:
    """The value of a plain (unquoted) scalar in the YAML 1.2 core schema. Raises ConfigError for a whole number of over 300 digits."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MOST_DIGITS and (_INT.match(text) or _BASED.match(text)):
        raise ConfigError(f"a number of {len(text)} digits; at most {MOST_DIGITS}")
    if _INT.match(text):
        return int(text)
    if _BASED.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    return text


def value_of(text: str, source: str) -> Any:
    """The value of a piece of YAML such as '256', '[1, 2]' or '{policy: orca}'."""
    nodes = _compose(text, source)
    return None if not nodes else _Builder(source).build(nodes[0], ())


def kind_of(value: Any) -> str:
    """A value in the words of an error message: "text 'abc'", '3', 'a mapping', 'nothing'."""
    if isinstance(value, str):
        return f"text '{clipped(value)}'"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return shown(value) if value is None or isinstance(value, int | float) else clipped(str(value))


def plain(value: Any, where: str) -> Any:
    """A copy of a value made in Python as YAML would hold it: NumPy scalars as numbers, paths as text, tuples as lists, keys as text.

    Raises ConfigError, beginning with `where`, for objects that YAML has no words for, and for values that contain themselves.
    """
    return _plain(value, where, 0, [0])


def _plain(value: Any, where: str, depth: int, count: list[int]) -> Any:
    count[0] += 1
    if depth > MOST_DEPTH or count[0] > _MAX_NODES:
        raise ConfigError(f"{where}: nested too deeply, or too many values")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(child, where, depth + 1, count) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child, where, depth + 1, count) for child in value]
    if isinstance(value, PurePath):
        return str(value)
    scalar_of = getattr(value, "item", None)  # NumPy's and its like; an array of more has no single item
    try:
        found = scalar_of() if callable(scalar_of) else str(value) if isinstance(value, str) else None
    except (TypeError, ValueError):
        found = None
    if type(found) in (bool, int, float, str):
        return found
    raise ConfigError(f"{where}: found {shown(value)}, expected text, a number, true or false, a list or a mapping")


def dump(data: Mapping[str, Any]) -> str:
    """YAML text that `parse` reads back to the same values, keys in the given order, floats by their shortest exact form."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        # Text that reads as another type needs quotes, in both YAML 1.1 (what PyYAML guards) and 1.2 (1e-3, 0o17).
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if _reads_as_text(value) else "'")

    def number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
        special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
        return dumper.represent_scalar("tag:yaml.org,2002:float", special.get(repr(value), repr(value)), style="")

    Dumper.add_representer(str, text)
    Dumper.add_representer(float, number)
    # Without this resolver PyYAML would write 1e-05 with an explicit !!float tag.
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    return yaml.dump(dict(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _reads_as_text(text: str) -> bool:
    return len(text) <= MOST_DIGITS and isinstance(scalar(text), str)


def _compose(text: str, source: str) -> list[yaml.Node]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):  # composing is recursive, parsing is not
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MOST_DEPTH:
                    raise ConfigError(f"{_at(source, event)}: nested too deeply")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        return list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        what = in_words(f"{error.problem}, {error.context}")
        raise ConfigError(f"{where}: not valid YAML: {what}{_hint(text, mark)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {in_words(str(error))}") from None


def _hint(text: str, mark: Any) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    return " (tabs cannot indent YAML; use spaces)" if "\t" in line[: len(line) - len(line.lstrip())] else ""


def _at(source: str, node: yaml.Node | yaml.Event) -> str:
    mark: Any = node.start_mark
    return f"{source}:{mark.line + 1}:{mark.column + 1}"


class _Builder:
    """Turns composed nodes into values and remembers their places."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[KeyPath, str] = {}
        self.key_places: dict[KeyPath, str] = {}
        self.open_nodes: set[int] = set()
        self.count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > _MAX_NODES or id(node) in self.open_nodes:
            raise ConfigError(f"{_at(self.source, node)}: aliases that expand without end")
        self.places[path] = _at(self.source, node)
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise ConfigError(f"{_at(self.source, node)}: tag '{clipped(node.tag)}' has no meaning here")
        if isinstance(node, yaml.ScalarNode):
            # style None (or "" from libyaml's plain scalars) is unquoted; quoted and block text stays text.
            if node.style:
                return node.value
            try:
                return scalar(node.value)
            except ConfigError as error:
                raise ConfigError(f"{_at(self.source, node)}: {error}") from None
        self.open_nodes.add(id(node))
        result: Any
        if isinstance(node, yaml.SequenceNode):
            result = [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        else:
            result = dict(self.entries(node, path))
        self.open_nodes.discard(id(node))
        return result

    def entries(self, node: yaml.Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{_at(self.source, key_node)}: a key must be a single word")
            key = key_node.value  # keys are always text: `no:` and `1:` keep their spelling
            place = _at(self.source, key_node)
            if key in seen:
                raise ConfigError(f"{place}: key '{clipped(key)}' is given twice (first at {self.key_places[(*path, key)]})")
            seen.add(key)
            self.key_places[(*path, key)] = place
            yield key, self.build(value_node, (*path, key))
