"""Which flags an engine's source has, and whether the lists that `simserve deploy` writes from say the same.

    python -m benchmarks.engine_flags SOURCES

SOURCES holds a folder for each version, named as `vllm-0.33.0` and `sglang-0.5.14`, with the package in it as its wheel unpacks.
Sources are parsed, not run. Prints what the lists (simserve/deploy/engines) claim and the source does not have, and ends with exit code 1
if there is anything.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from simserve.deploy.flag_list import FlagList, bundled

_FILES = {
    "vllm": ("vllm/engine/arg_utils.py", "vllm/entrypoints/*/cli_args.py", "vllm/entrypoints/cli/serve.py"),
    "sglang": ("sglang/srt/server_args.py", "sglang/srt/arg_groups/fields/*.py"),
}
_CLASSES = {"vllm": ("EngineArgs", "AsyncEngineArgs", "FrontendArgs", "BaseFrontendArgs"), "sglang": ()}
_PARTS = {"speculative_config": "SpeculativeConfig", "kv_transfer_config": "KVTransferConfig", "compilation_config": "CompilationConfig"}
"""Flags of vLLM that hold a mapping, and the class whose fields are its keys."""


def flags(source: Path, engine: str) -> dict[str, str]:
    """Flag, with underscores -> what kind of value it takes ("" = cannot be told), of one version's source."""
    found: dict[str, str] = {}
    for pattern in _FILES[engine]:
        for path in sorted(source.glob(pattern)):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= dict(_fields(tree, _CLASSES[engine]))
            found |= {name: kind for name, kind in _arguments(tree) if kind or name not in found}
    if engine == "vllm":
        configs = [*source.glob("vllm/config.py"), *source.glob("vllm/config/*.py")]
        trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(configs)]
        for flag, name in _PARTS.items():
            found |= {f"{flag}.{part}": kind for tree in trees for part, kind in _fields(tree, (name,))}
    return found


def _fields(tree: ast.Module, classes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Fields of the dataclasses that the command line is made of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and (node.name in classes or not classes):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and "no_cli=True" not in ast.unparse(field):
                    yield field.target.id, _kind(ast.unparse(field.annotation))


def _arguments(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Calls of add_argument with their names; without `type` and `action` the kind cannot be told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            told = {word.arg: ast.unparse(word.value) for word in node.keywords}
            kind = "switch" if any(word in told.get("action", "") for word in ("store_true", "Boolean", "StoreTrue")) else ""
            kind = kind or {"int": "integer", "float": "number", "str": "text"}.get(told.get("type", ""), "")
            for name in node.args:
                if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.startswith("--"):
                    yield name.value.removeprefix("--").replace("-", "_"), kind


def _kind(annotation: str) -> str:
    """`A[int | None, Arg(...)]` and `int | None` are whole numbers; what is neither a number nor a truth value stays open."""
    first = annotation.removeprefix("A[").split(",")[0]
    words = {word.strip(" []") for word in first.replace("Optional[", "").split("|")} - {"None"}
    return {"bool": "switch", "int": "integer", "float": "number"}.get(next(iter(words)), "") if len(words) == 1 else ""


def differences(listed: FlagList, version: str, found: dict[str, str]) -> list[str]:
    """What the list claims of a version, and its source says otherwise."""
    wrong = []
    for name, flag in listed.flags.items():
        has, says = name in found, listed.has(name, version)
        if flag.within is None and not flag.positional and has != says:
            wrong.append(
                f"{listed.engine} {version}: {name} is {'not listed' if has else 'listed'}, the source {'has' if has else 'lacks'} it"
            )
        elif has and says and found[name] not in ("", flag.kind) and (found[name], flag.kind) != ("text", "choice"):
            wrong.append(f"{listed.engine} {version}: {name} is listed as {flag.kind}, the source has {found[name]}")
    return wrong


def main(sources: Path) -> int:
    """Prints the differences of all versions whose source is there; 1 if there are any, 2 if there is no source."""
    wrong, seen = [], 0
    for listed in bundled():
        for version in listed.versions:
            source = sources / f"{listed.engine}-{version}"
            if listed.engine in _FILES and source.is_dir():
                seen += 1
                wrong += differences(listed, version, flags(source, listed.engine))
    print("\n".join(wrong) or f"{seen} versions checked")
    return 1 if wrong else 0 if seen else 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
