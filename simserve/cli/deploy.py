"""`simserve deploy`: an experiment or a plan as command lines of its engine and as Kubernetes manifests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def deploy(
    source: Annotated[
        str, typer.Argument(help="A YAML file, the name of a bundled experiment, or the directory of a plan search or a run.")
    ],
    engine_version: Annotated[
        str | None, typer.Option(metavar="X.Y.Z", help="Write flags for this version.", show_default="the engine profile's")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The checkpoint: a Hugging Face name, or a folder.", show_default="by the model")
    ] = None,
    node_devices: Annotated[int | None, typer.Option(min=1, help="Devices of a node.", show_default="the experiment's, or 8")] = None,
    image: Annotated[str | None, typer.Option(help="Container image.", show_default="the engine's own of that version")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the experiment.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write commands.sh, kubernetes.yaml and what they need here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes on stderr.")] = False,
) -> None:
    """Print what to type: the engine's command lines for an experiment's instances, or for the plan that a search found; with --out also
    Kubernetes manifests."""
    from simserve.cli.launch_output import show_launch
    from simserve.cli.study_output import changed
    from simserve.deploy.launch import launch
    from simserve.study.deploying import to_deploy

    experiment, notes = to_deploy(source, changed(changes))
    found = launch(experiment, version=engine_version, model_name=model_name, node_devices=node_devices, image=image)
    if out is not None:
        found.write(out)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, sort_keys=True))
    else:
        show_launch(found, out, quiet=quiet)
    for note in () if quiet else notes:
        print(f"! {note}", file=sys.stderr)
