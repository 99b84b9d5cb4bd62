"""`simserve policies`: the policies that schedule, route and control, and the parameters of one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simserve.cli import completion
from simserve.errors import ConfigError, nearest
from simserve.files.words import clipped

if TYPE_CHECKING:
    from simserve.config.parameters import Parameter

app = typer.Typer()


@app.command()
def policies(
    name: Annotated[str | None, typer.Argument(help="Show the parameters of this policy.", autocompletion=completion.policies)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the policies for scheduling, routing and controlling; with a name, its description and parameters."""
    from simserve.cli import tables
    from simserve.config.parameters import parameters
    from simserve.policies import registry

    kinds: tuple[tuple[str, list[str], Callable[[str], Any]], ...] = (
        ("scheduling policy", registry.scheduler_names(), registry.scheduler_class),
        ("router", registry.router_names(), registry.router_class),
        ("controller", registry.controller_names(), registry.controller_class),
    )
    if name is None and as_json:
        listed = [_as_dict(kind, n, class_of(n)) for kind, names, class_of in kinds for n in names]
        tables.as_json([*listed, *({"kind": "waiting order", "policy": order} for order in registry.order_names())])
        return
    if name is None:
        for number, (kind, names, class_of) in enumerate(kinds):
            classes = [class_of(policy) for policy in names]
            rows = [(n, _first_sentence(_about(c)), _settings(parameters(c.Params))) for n, c in zip(names, classes, strict=True)]
            last = number == len(kinds) - 1
            tables.show((kind, "what it does", "parameters"), rows, f"Waiting orders: {', '.join(registry.order_names())}" if last else "")
            if not last:
                print()
        return
    found_in = [(kind, class_of) for kind, names, class_of in kinds if name in names]
    if not found_in:
        raise ConfigError(f"unknown policy '{clipped(name)}'{nearest(name, [one for _, names, _ in kinds for one in names])}")
    kind, class_of = found_in[0]
    found = class_of(name)
    if as_json:
        print(json.dumps(_as_dict(kind, name, found), indent=2, ensure_ascii=False, allow_nan=False))
        return
    print(f"{name}: {_about(found)}")
    settings = [(p.name, p.kind, p.default, p.description) for p in parameters(found.Params)]
    if settings:
        print()
        tables.show(("parameter", "type", "default", "what it means"), settings)


def _as_dict(kind: str, name: str, policy: Any) -> dict[str, Any]:
    from simserve.config.parameters import parameters

    return {"kind": kind, "policy": name, "description": _about(policy), "parameters": [row._asdict() for row in parameters(policy.Params)]}


def _about(policy: Any) -> str:
    """The policy's own words: of its class, or of its module."""
    return inspect.cleandoc(policy.__doc__ or inspect.getmodule(policy).__doc__ or "")


def _settings(rows: list[Parameter]) -> str:
    return ", ".join(f"{p.name}={p.default}" if p.default else p.name for p in rows)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."
