"""docs/experiment-reference.md, made from the schema: `simserve schema --markdown > docs/experiment-reference.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from simserve.config import engine_profile
from simserve.config.parameters import Parameter, parameters, rows
from simserve.config.schema import ExperimentSpec
from simserve.files import tree
from simserve.policies import registry

_HEAD = """# Experiment reference

Made from the schema by `simserve schema --markdown`; do not edit by hand. `simserve schema` prints the same as JSON Schema: with
`# yaml-language-server: $schema=experiment.schema.json` as the first line of an experiment, editors complete and check it.

Rules of the language:

- Unknown keys, repeated keys and values of the wrong type are errors, each with file, line and column; all are listed together.
- Scalars follow YAML 1.2: `1e-3` is a number, `no` is text, `true` and `false` are the only truth values, `10_000` is ten thousand.
- `--set path.to.key=value` changes one key; list elements go by index: `--set cluster.instances.0.scheduler.token_budget=256`.
- Paths are looked for relative to the experiment's folder, then to the current directory, then among the bundled data.
- A value left out comes from the instance's policy or the engine profile; an engine flag (`engine: {name: vllm-v1, max_num_seqs: 64}`)
  goes over the profile, and a key of the instance goes over the flag. A profile's scheduler defaults hold for its own policy only.
- `experiment.resolved.yaml` in a result has everything explicit. It keeps the names of bundled files, has absolute paths to your own,
  and runs the same from anywhere.
"""


def reference() -> str:
    """The whole page."""
    root = ExperimentSpec.model_json_schema()
    parts = [_HEAD, "\n## Top level\n", _table(rows(root, root))]
    first_at: dict[str, str] = {}
    for path, schema in _sections(root, root, ()):
        title = f"`{'.'.join(path)}`{_kind(schema)}"
        parts += [f"\n## {title}\n", f"\n{_sentence(schema)}\n"]
        before = first_at.setdefault(json.dumps(schema, sort_keys=True), title)
        parts.append(_table(rows(schema, root)) if before == title else f"\nThe keys of {before}.\n")
    parts.append("\n## Scheduling policies: further keys of `scheduler`\n")
    for name in registry.scheduler_names():
        parts += [f"\n### `{name}`\n", _table(parameters(registry.scheduler_class(name).Params))]
    parts.append(f"\nQueue disciplines: {_names(registry.order_names())}.\n")
    for title, names, class_of in (
        ("Routing policies: further keys of `router`", registry.router_names(), registry.router_class),
        ("Controllers: further keys of `controllers[]`", registry.controller_names(), registry.controller_class),
    ):
        parts.append(f"\n## {title}\n")
        for name in names:
            found = parameters(class_of(name).Params)
            parts += [f"\n### `{name}`\n", _table(found) if found else "\nNo parameters.\n"]
    parts.append("\n`router.decode_policy` runs with its default parameters.\n")
    parts.append("\n## Engine profiles: further keys of `engine`\n")
    for name in engine_profile.names():
        profile = engine_profile.load_engine(name)
        parts.append(
            f"\n### `{name}`\n\n{profile.description}\n{profile.engine}, {profile.versions}. Default policy `{profile.scheduler.policy}`.\n"
        )
        parts.append("\n| flag | sets | default |\n| --- | --- | --- |\n")
        parts += [f"| `{flag}` | `{key}` | {profile.default_of(key)} |\n" for flag, key in profile.all_flags().items()]
    return "".join(parts)


def _sections(schema: tree.Schema, root: tree.Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every mapping below a schema that has keys of its own, with its path; `[]` stands for the elements of a list."""
    for name, child in schema.get("properties", {}).items():
        for option in tree.branches(child, root):
            yield from _section(option, root, (*path, name))


def _section(schema: tree.Schema, root: tree.Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if "properties" in schema:
        yield path, schema
        yield from _sections(schema, root, path)
    for inner, mark in ((schema.get("items"), "[]"), (schema.get("additionalProperties"), "<name>")):
        if isinstance(inner, dict):
            for option in tree.branches(inner, root):
                yield from _section(option, root, (*path[:-1], path[-1] + mark) if mark == "[]" else (*path, mark))


def _kind(schema: tree.Schema) -> str:
    """The fixed word that selects this branch: ' with `kind: poisson`'."""
    words = [f"`{key}: {child['const']}`" for key, child in schema["properties"].items() if "const" in child]
    return f" with {words[0]}" if words and len(schema["properties"]) > 1 and "role" not in schema["properties"] else ""


def _table(parameters: list[Parameter]) -> str:
    lines = [f"| `{p.name}` | {_cell(p.kind)} | {_code(p.default)} | {_cell(p.description)} |\n" for p in parameters]
    return "\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n" + "".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text not in ("", "required") else text


def _sentence(schema: tree.Schema) -> str:
    return " ".join(str(schema.get("description", "")).split("\n\n")[0].split())


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
