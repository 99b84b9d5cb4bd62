"""`simserve models`: the bundled architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simserve.cli import completion

if TYPE_CHECKING:
    from simserve.model import ModelArchitecture

app = typer.Typer()


@app.command()
def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A name to look up: bundled, a Hugging Face id, a quantised copy, a path.", autocompletion=completion.models),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the bundled model architectures, or say which one a name stands for and how its weights are stored."""
    from simserve.cli import tables
    from simserve.model import load_model, model_ids, model_names

    bundled = model_names()
    loaded = {one: load_model(one) for one in (bundled if name is None else [name])}
    if as_json:
        tables.as_json(
            {
                "model": model.name,
                "parameters": model.parameters(),
                "active_parameters": model.active_parameters(),
                "layers": model.num_layers,
                "kv_bytes_per_token": model.kv_bytes_per_token(),
                "context_tokens": model.max_position_embeddings,
                "ids": list(model_ids(model.name)) if model.name in bundled else [],
                **({} if name is None else {"weights": _weights(model), "taken": model.taken}),
            }
            for model in loaded.values()
        )
        return
    rows = []
    for model in loaded.values():
        kv_kib = model.kv_bytes_per_token() / 1024
        parts = (f"{model.parameters() / 1e9:.1f}", f"{model.active_parameters() / 1e9:.1f}", str(model.num_layers), f"{kv_kib:.0f}")
        rows.append((model.name, *parts, str(model.max_position_embeddings), *([] if name is None else [_weights(model)])))
    columns = ("model", "params, 10^9", "active, 10^9", "layers", "KV KiB/token", "context", *([] if name is None else ["weights"]))
    tables.show(columns, rows, "A path to a config.json works too." if name is None else "")
    if name is not None and loaded[name].taken:
        print(loaded[name].taken)


def _weights(model: ModelArchitecture) -> str:
    return model.dtype if model.quantisation.name == "none" else model.quantisation.name
