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

OWN = "simserve"
"""The package of what is built in."""

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

    kinds: tuple[tuple[str, list[str], Callable[[str], Any], str], ...] = (
        ("scheduling policy", registry.scheduler_names(), registry.scheduler_class, "schedulers"),
        ("router", registry.router_names(), registry.router_class, "routers"),
        ("controller", registry.controller_names(), registry.controller_class, "controllers"),
    )
    orders = {order: registry.package("orders", order) for order in registry.order_names()}
    if name is None and as_json:
        listed = [_as_dict(kind, n, class_of(n), registry.package(group, n)) for kind, names, class_of, group in kinds for n in names]
        tables.as_json([*listed, *({"kind": "queue discipline", "policy": order, "package": orders[order] or OWN} for order in orders)])
        return
    if name is None:
        for number, (kind, names, class_of, group) in enumerate(kinds):
            rows = []
            for one in names:
                policy, package = class_of(one), registry.package(group, one)
                rows.append((one, _first_sentence(_about(policy)) + _of(package), _settings(parameters(policy.Params))))
            last = number == len(kinds) - 1
            note = f"Queue disciplines: {', '.join(order + _of(package) for order, package in orders.items())}" if last else ""
            tables.show((kind, "what it does", "parameters"), rows, note)
            if not last:
                print()
        return
    found_in = [(kind, class_of, group) for kind, names, class_of, group in kinds if name in names]
    if not found_in:
        raise ConfigError(f"unknown policy '{clipped(name)}'{nearest(name, [one for _, names, _, _ in kinds for one in names])}")
    kind, class_of, group = found_in[0]
    found, package = class_of(name), registry.package(group, name)
    if as_json:
        print(json.dumps(_as_dict(kind, name, found, package), indent=2, ensure_ascii=False, allow_nan=False))
        return
    print(f"{name}{_of(package)}: {_about(found)}")
    settings = [(p.name, p.kind, p.default, p.description) for p in parameters(found.Params)]
    if settings:
        print()
        tables.show(("parameter", "type", "default", "what it means"), settings)


def _of(package: str) -> str:
    """The package that a policy comes from, if that is not simserve."""
    return f" ({package})" if package else ""


def _as_dict(kind: str, name: str, policy: Any, package: str) -> dict[str, Any]:
    from simserve.config.parameters import parameters

    settings = [row._asdict() for row in parameters(policy.Params)]
    return {"kind": kind, "policy": name, "package": package or OWN, "description": _about(policy), "parameters": settings}


def _about(policy: Any) -> str:
    """The policy's own words: of its class, or of its module."""
    return inspect.cleandoc(policy.__doc__ or inspect.getmodule(policy).__doc__ or "")


def _settings(rows: list[Parameter]) -> str:
    return ", ".join(f"{p.name}={p.default}" if p.default else p.name for p in rows)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."
