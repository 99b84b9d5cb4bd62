"""`simserve engines`: the engine profiles, and the flags of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from simserve.cli import completion

if TYPE_CHECKING:
    from simserve.config.engine_profile import EngineProfile
    from simserve.config.engine_speculation import EngineSpeculation

app = typer.Typer()

_FRACTIONS = {
    "device": "of each device's memory, for weights, activations and KV cache",
    "device-static": "of each device's memory, for weights and KV cache; activations come from the rest",
    "free": "of what weights and activations leave, for the KV cache",
}


def _speculation(known: EngineSpeculation) -> list[str]:
    if not known.methods:
        return ["Speculative decoding: none"]
    lines = [f"Speculative decoding: {', '.join(known.methods)}; KV of rejected tokens is {known.rejected_kv}"]
    if known.max_seqs is not None:
        lines.append(f"  at most {known.max_seqs} requests run at once unless stated")
    for rule in known.refused:
        bound = f" above {rule.above:g}" if rule.above is not None else ""
        values = f" {', '.join(str(value) for value in rule.values)}" if rule.values else ""
        who = f" with {', '.join(rule.methods)}" if rule.methods else ""
        lines.append(f"  not {rule.key}{bound}{values}{who}: {rule.reason} ({rule.source})")
    return lines


def _validation(profile: EngineProfile) -> str:
    """Yes or no, and what says so: held-out runs and their error."""
    found = profile.verdict
    return f"{'yes' if found.validated else 'no'}: {found.words}"


@app.command()
def engines(
    name: Annotated[
        str | None, typer.Argument(help="Show the defaults and flags of this engine.", autocompletion=completion.engines)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the engine profiles; with a name, its defaults, flags and sources."""
    from simserve.cli import tables
    from simserve.config import engine_profile

    if name is None:
        profiles = [engine_profile.load_engine(n) for n in engine_profile.names()]
        if as_json:
            about = ("name", "engine", "description", "versions", "validated")
            tables.as_json({**{key: getattr(p, key) for key in about}, "held_out": p.verdict.words} for p in profiles)
            return
        rows = [(p.name, p.description, p.versions, _validation(p)) for p in profiles]
        tables.show(("engine", "what it is", "versions", "overheads validated"), rows)
        return
    profile = engine_profile.load_engine(name)
    if as_json:
        content = {**profile.model_dump(mode="json", exclude_none=True), "validated": profile.validated}
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print(f"{profile.name}: {profile.description}\n{profile.engine}, {profile.versions}\n")
    tables.show(("flag", "sets", "default"), [(flag, key, profile.default_of(key)) for flag, key in profile.all_flags().items()])
    print(f"\nMemory fraction: {_FRACTIONS[profile.memory.fraction_of]}")
    host = ", ".join(f"{key} {value:g}" for key, value in profile.host.model_dump(exclude_none=True).items())
    print(f"Host overheads: {host}\nValidated: {_validation(profile)}")
    print("".join(f"{sentence}\n" for sentence in profile.ignored), end="")
    print("\n".join(_speculation(profile.speculation)))
    print("\n".join(["Sources:", *(f"  {source}" for source in profile.sources)]))
