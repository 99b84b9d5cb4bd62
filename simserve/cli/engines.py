"""`simserve engines`: the engine profiles, and the flags of one."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def engines(name: Annotated[str | None, typer.Argument(help="Show the defaults and flags of this engine.")] = None) -> None:
    """List the engine profiles; with a name, its defaults, flags and sources."""
    from simserve.cli.tables import show
    from simserve.config import engine_profile

    if name is None:
        profiles = [engine_profile.load_engine(n) for n in engine_profile.names()]
        rows = [(p.name, p.description, p.versions, "yes" if p.validated else "not validated") for p in profiles]
        show(("engine", "what it is", "versions", "overheads validated"), rows)
        return
    profile = engine_profile.load_engine(name)
    print(f"{profile.name}: {profile.description}\n{profile.engine}, {profile.versions}\n")
    show(("flag", "sets", "default"), [(flag, key, profile.default_of(key)) for flag, key in profile.flags.items()])
    host = ", ".join(f"{key} {value:g}" for key, value in profile.host.model_dump(exclude_none=True).items())
    print(f"\nHost overheads ({'validated' if profile.validated else 'not validated'}): {host}")
    print("\n".join(["Sources:", *(f"  {source}" for source in profile.sources)]))
