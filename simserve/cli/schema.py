"""`simserve schema`: the experiment language for editors and people."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def schema(
    policy: Annotated[str | None, typer.Option(help="Only the parameters of this scheduling policy.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference for people (docs/experiment-reference.md).")] = False,
) -> None:
    """Print the JSON Schema of experiment files; editors complete and check them with it."""
    from simserve.config.json_schema import experiment_schema, policy_schema
    from simserve.config.reference import reference

    if markdown:
        print(reference(), end="")
    else:
        print(json.dumps(policy_schema(policy) if policy else experiment_schema(), indent=2))
