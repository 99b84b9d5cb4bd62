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


def _schedules(profile: str) -> str:
    """How many schedules of each version of the engine were equal."""
    from simserve.config.verified_schedules import verified

    return "; ".join(f"{one.version}: {one.equal} of {one.workloads}" for one in verified(profile)) or "not verified"


def _verified(profile: str) -> list[str]:
    """Versions, and the kinds of workloads that were not equal or not compared."""
    from simserve.config.verified_schedules import verified

    versions = verified(profile)
    if not versions:
        return ["Schedules: not verified against the engine's own scheduler"]
    lines = ["Schedules held against the engine's own scheduler, step for step:"]
    for version in versions:
        lines.append(f"  {version.engine} {version.version}: {version.equal} of {version.workloads} workloads equal")
        for name, kind in version.kinds.items():
            if kind.equal < kind.of:
                lines.append(f"    {name}: {kind.equal} of {kind.of} equal; {kind.first_difference}")
            if kind.why:
                lines.append(f"    {name}: {kind.not_driven + kind.not_simulated} not compared: {kind.why}")
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
    from simserve.config import engine_profile, verified_schedules

    if name is None:
        profiles = [engine_profile.load_engine(n) for n in engine_profile.names()]
        if as_json:
            about = ("name", "engine", "description", "versions", "validated")
            schedules = {p.name: [one.described() for one in verified_schedules.verified(p.name)] for p in profiles}
            tables.as_json(
                {**{key: getattr(p, key) for key in about}, "held_out": p.verdict.words, "verified_schedules": schedules[p.name]}
                for p in profiles
            )
            return
        rows = [(p.name, p.description, p.versions, _validation(p), _schedules(p.name)) for p in profiles]
        tables.show(("engine", "what it is", "versions", "overheads validated", "schedules equal"), rows)
        return
    profile = engine_profile.load_engine(name)
    if as_json:
        found = [one.model_dump(exclude_defaults=True) for one in verified_schedules.verified(profile.name)]
        content = {**profile.model_dump(mode="json", exclude_none=True), "validated": profile.validated, "verified_schedules": found}
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print(f"{profile.name}: {profile.description}\n{profile.engine}, {profile.versions}\n")
    tables.show(("flag", "sets", "default"), [(flag, key, profile.default_of(key)) for flag, key in profile.all_flags().items()])
    print(f"\nMemory fraction: {_FRACTIONS[profile.memory.fraction_of]}")
    host = ", ".join(f"{key} {value:g}" for key, value in profile.host.model_dump(exclude_none=True).items())
    print(f"Host overheads: {host}\nValidated: {_validation(profile)}")
    print("".join(f"{sentence}\n" for sentence in profile.ignored), end="")
    print("\n".join([*_speculation(profile.speculation), *_verified(profile.name)]))
    print("\n".join(["Sources:", *(f"  {source}" for source in profile.sources)]))
