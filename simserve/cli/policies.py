"""`simserve policies`: the policies that schedule, route and control, and the parameters of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simserve.errors import ConfigError, nearest

if TYPE_CHECKING:
    from simserve.config.parameters import Parameter

app = typer.Typer()


@app.command()
def policies(name: Annotated[str | None, typer.Argument(help="Show the parameters of this policy.")] = None) -> None:
    """List the policies for scheduling, routing and controlling; with a name, its description and parameters."""
    from simserve.cli.tables import show
    from simserve.config.parameters import parameters
    from simserve.policies import registry

    kinds: tuple[tuple[str, list[str], Callable[[str], Any]], ...] = (
        ("scheduling policy", registry.scheduler_names(), registry.scheduler_class),
        ("router", registry.router_names(), registry.router_class),
        ("controller", registry.controller_names(), registry.controller_class),
    )
    if name is None:
        for number, (kind, names, class_of) in enumerate(kinds):
            classes = [class_of(policy) for policy in names]
            rows = [(n, _first_sentence(_about(c)), _settings(parameters(c.Params))) for n, c in zip(names, classes, strict=True)]
            last = number == len(kinds) - 1
            show((kind, "what it does", "parameters"), rows, f"Waiting orders: {', '.join(registry.order_names())}" if last else "")
            if not last:
                print()
        return
    doors = [class_of for _, names, class_of in kinds if name in names]
    if not doors:
        raise ConfigError(f"unknown policy '{name}'{nearest(name, [one for _, names, _ in kinds for one in names])}")
    found = doors[0](name)
    print(f"{name}: {_about(found)}")
    settings = [(p.name, p.kind, p.default, p.description) for p in parameters(found.Params)]
    if settings:
        print()
        show(("parameter", "type", "default", "what it means"), settings)


def _about(policy: Any) -> str:
    """The policy's own words: of its class, or of its module."""
    return inspect.cleandoc(policy.__doc__ or inspect.getmodule(policy).__doc__ or "")


def _settings(rows: list[Parameter]) -> str:
    return ", ".join(f"{p.name}={p.default}" if p.default else p.name for p in rows)


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."
