"""`simserve models`: the bundled architectures."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False) -> None:
    """List the bundled model architectures."""
    from simserve.cli import tables
    from simserve.model import load_model, model_ids, model_names

    loaded = {name: load_model(name) for name in model_names()}
    if as_json:
        tables.as_json(
            {
                "model": name,
                "parameters": model.parameters(),
                "active_parameters": model.active_parameters(),
                "layers": model.num_layers,
                "kv_bytes_per_token": model.kv_bytes_per_token(),
                "context_tokens": model.max_position_embeddings,
                "ids": list(model_ids(name)),
            }
            for name, model in loaded.items()
        )
        return
    rows = []
    for name, model in loaded.items():
        kv_kib = model.kv_bytes_per_token() / 1024
        parts = (f"{model.parameters() / 1e9:.1f}", f"{model.active_parameters() / 1e9:.1f}", str(model.num_layers), f"{kv_kib:.0f}")
        rows.append((name, *parts, str(model.max_position_embeddings)))
    tables.show(
        ("model", "parameters, 10^9", "active, 10^9", "layers", "KV KiB/token", "context"), rows, "A path to a config.json works too."
    )
