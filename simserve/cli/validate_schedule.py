"""`simserve validate schedule`: the schedules of a real engine's scheduler held against simserve's, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schedule(
    engine: Annotated[str, typer.Option("--engine", help="The engine: vllm, vllm-ascend or sglang, installed where this runs.")] = "",
    kinds: Annotated[str, typer.Option("--kinds", metavar="KIND,...", help="Kinds of workloads. Default: all that the engine has.")] = "",
    workloads: Annotated[int, typer.Option("--workloads", min=1, max=100_000, help="Random workloads, over all kinds.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first workload of each kind.")] = 0,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Engine profile to hold against it. Default: the one for the engine's version.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write a summary for a pull request.")] = None,
    fixtures: Annotated[
        Path | None,
        typer.Option("--fixtures", metavar="PLACE", help="Compare recorded schedules (a folder or one file); no engine is needed."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Write what the engine did, for --fixtures (.json or .json.gz).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Hold a real engine's scheduler against simserve's, step by step: random workloads through both, with steps of a constant length.

    Runs where the engine is installed, on a CPU, without a model; or over recorded schedules (--fixtures). Prints how many were equal and
    the first step that differs, with the state of both sides. Exit code 1 when any differ.
    """
    from simserve.cli.schedule_output import print_json, show, write_summary
    from simserve.errors import ConfigError
    from simserve.progress.count import counting
    from simserve.validation.schedules import fixture
    from simserve.validation.schedules.compare import compare_cases, tallies
    from simserve.validation.schedules.driving import driven
    from simserve.validation.schedules.engines import driver

    wanted = [word.strip() for word in kinds.split(",") if word.strip()]
    if fixtures is not None:
        cases = fixture.chosen(fixture.read_place(fixtures), engine, wanted)
    else:
        if not engine:
            raise ConfigError("--engine is missing: the engine whose scheduler is driven; or --fixtures, the place of recorded schedules")
        driver(engine)
        from simserve.validation.schedules import kinds as known

        with counting("workloads given to the engine") as progress:
            cases = driven(engine, known.workloads(engine, wanted, workloads, seed), progress=progress)
        if record is not None:
            fixture.write_cases(record, cases)
    with counting("schedules compared") as progress:
        comparisons = compare_cases(cases, profile=profile, progress=progress)
    if markdown is not None:
        write_summary(comparisons, markdown)
    counts = tallies(comparisons)
    if as_json:
        print_json(counts)
    else:
        show(counts)
    if any(tally.different for tally in counts):
        raise typer.Exit(1)
    if not any(tally.equal for tally in counts):
        raise ConfigError("no schedule was compared: what is said above is why")
