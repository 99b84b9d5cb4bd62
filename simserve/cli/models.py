"""`simserve models`: the bundled architectures."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def models() -> None:
    """List the bundled model architectures."""
    from simserve.cli.tables import show
    from simserve.model import load_model, model_names

    rows = []
    for name in model_names():
        model = load_model(name)
        kv_kib = model.kv_bytes_per_token() / 1024
        parts = (f"{model.parameters() / 1e9:.1f}", f"{model.active_parameters() / 1e9:.1f}", str(model.num_layers), f"{kv_kib:.0f}")
        rows.append((name, *parts, str(model.max_position_embeddings)))
    show(("model", "parameters, 10^9", "active, 10^9", "layers", "KV KiB/token", "context"), rows, "A path to a config.json works too.")
