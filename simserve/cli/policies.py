"""`simserve policies`: the scheduling policies, and the parameters of one."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def policies(name: Annotated[str | None, typer.Argument(help="Show the parameters of this policy.")] = None) -> None:
    """List the scheduling policies; with a name, its description and parameters."""
    from simserve.cli.tables import show
    from simserve.config.parameters import parameters
    from simserve.policies import registry

    if name is None:
        rows = []
        for policy in registry.scheduler_names():
            found = registry.scheduler_class(policy)
            settings = ", ".join(f"{p.name}={p.default}" if p.default else p.name for p in parameters(found.Params))
            rows.append((policy, _first_sentence(_about(found)), settings))
        show(("policy", "what it does", "parameters"), rows, f"Waiting orders: {', '.join(registry.order_names())}")
        return
    found = registry.scheduler_class(name)
    print(f"{name}: {_about(found)}\n")
    show(("parameter", "type", "default", "what it means"), [(p.name, p.kind, p.default, p.description) for p in parameters(found.Params)])


def _about(policy: Any) -> str:
    """The policy's own words: of its class, or of its module."""
    return inspect.cleandoc(policy.__doc__ or inspect.getmodule(policy).__doc__ or "")


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".") + "."
