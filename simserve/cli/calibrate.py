"""`simserve calibrate`: from measured tables to a hardware profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

_CORE = ("gemm", "attention_prefill", "attention_decode")
"""What a step of any transformer with plain attention spends most of its time in."""

app = typer.Typer(no_args_is_help=True, help="Make the numbers true for your machine.")


@app.callback()
def _group() -> None:
    """Make the numbers true for your machine."""


@app.command()
def fit(
    tables: Annotated[Path, typer.Argument(help="Directory of measured kernel tables.")],
    out: Annotated[Path, typer.Option("--out", help="Profile to write (.yaml); its coefficients go to a folder beside it.")],
    facts: Annotated[str, typer.Option("--facts", help="Profile (name or path) whose device facts are used.")],
    also: Annotated[
        list[str] | None, typer.Option("--also", help="More tables, for some operators only: DIR or DIR=operator,operator. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new profile (default: the file's).")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Directory for a figure of each operator's check error.")] = None,
) -> None:
    """Fit every operator found in the tables, report the error on rows held out from the fit, and say what stays a roofline estimate."""
    from simserve.calibration.build import build_profile
    from simserve.errors import ConfigError
    from simserve.hardware.operators import OPERATORS
    from simserve.hardware.profile import load_profile

    sources: list[tuple[Path, frozenset[str] | None]] = [(tables, None)]
    for text in also or []:
        folder, _, wanted = text.partition("=")
        operators = frozenset(o for o in wanted.split(",") if o)
        unknown = sorted(operators - set(OPERATORS))
        if unknown:
            raise ConfigError(f"--also {text}: unknown operator {', '.join(unknown)}; known: {', '.join(sorted(OPERATORS))}")
        sources.append((Path(folder), operators or None))
    base = load_profile(facts).path
    profile, left_out = build_profile(base, sources, out, lambda line: typer.echo(line, err=True), name=name, report=report)
    fitted = {entry.operator for entry in profile.entries()}
    estimated = [operator for operator in OPERATORS if operator not in fitted]
    typer.echo(f"wrote {out}: {len(profile.entries())} fitted kernels of {len(fitted)} operators")
    for reason, rows in sorted(left_out.items()):
        typer.echo(f"left out {rows:,} rows: {reason}")
    if estimated:
        typer.echo(f"roofline estimates, not fitted: {', '.join(estimated)}")
    core = [operator for operator in _CORE if operator in estimated]
    if core:
        typer.echo(f"warning: {' and '.join(core)} decide most of a step and stay a roofline estimate in this profile", err=True)


@app.command(name="import")
def import_(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="vidur, aiconfigurator or tables (our own schema).")],
    path: Annotated[Path, typer.Argument(help="Folder of the tables, or a system of the installed aiconfigurator-core.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the tables that 'fit' and 'validate kernels' read.")],
    device: Annotated[str | None, typer.Option("--device", help="Device's folder name, where PATH holds several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Bring published tables of measured kernels into our schema."""
    from simserve.calibration.imports import import_tables
    from simserve.cli.tables import show

    made = import_tables(form, path, out, device)
    if as_json:
        tables = [{"table": t, "dtype": d, "backend": b, "rows": rows} for (t, d, b), rows in sorted(made.rows.items())]
        typer.echo(json.dumps({"tables": tables, "left_out": dict(sorted(made.skipped.items()))}, indent=1, ensure_ascii=False))
        return
    show(("table", "dtype", "backend", "rows"), [(*key, f"{rows:,}") for key, rows in sorted(made.rows.items())])
    for reason, rows in sorted(made.skipped.items()):
        typer.echo(f"left out {rows:,} rows: {reason}")


@app.command()
def measure(
    device: Annotated[str, typer.Option("--device", help="cuda, cuda:1, npu or cpu.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the tables, the journal and environment.json; resumed.")],
    ops: Annotated[str, typer.Option("--ops", help="Operators, separated by commas; default all.")] = "",
    dtype: Annotated[str, typer.Option("--dtype", help="bf16, fp16, fp32, fp8, w8a8_int8; default bf16, or as the model is stored.")] = "",
    for_model: Annotated[str, typer.Option("--for-model", help="Measure exactly the shapes of these models.")] = "",
    tp: Annotated[str, typer.Option("--tp", help="Tensor-parallel ranks of --for-model, one or several.")] = "1",
    ep: Annotated[int, typer.Option("--ep", help="Expert-parallel ranks of --for-model.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="The coarse grid only.")] = False,
    time_budget_s: Annotated[float | None, typer.Option("--time-budget-s", help="Stop after this time; coarse points come first.")] = None,
    graphs: Annotated[str, typer.Option("--graphs", help="Kernels inside CUDA graphs: on, off or both.")] = "on",
    attention: Annotated[str, typer.Option("--attention", help="flashinfer, varlen, gather, sdpa; default the best installed.")] = "",
    max_ranks: Annotated[int | None, typer.Option("--max-ranks", help="Largest group for collectives.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Rounds whose median is taken.")] = 11,
    flush_l2: Annotated[bool, typer.Option("--flush-l2", help="Flush the L2 cache before every call.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Measure again what failed in an earlier run.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the random data.")] = 0,
) -> None:
    """Run real kernels on a device and write the tables that `fit` reads. Resumes; Ctrl-C keeps what was measured."""
    from simserve.calibration.measure.command import INTERRUPTED, report
    from simserve.calibration.measure.options import MeasureOptions, numbers, words
    from simserve.calibration.measure.points import OPERATORS
    from simserve.calibration.measure.session import measure as run

    options = MeasureOptions(
        device,
        out,
        operators=words(ops) if ops else OPERATORS,
        dtypes=words(dtype) or None,
        models=words(for_model),
        tp=numbers("--tp", tp),
        ep=ep,
        quick=quick,
        time_budget_s=time_budget_s,
        graphs=graphs,
        attention=words(attention) or None,
        max_ranks=max_ranks,
        repeats=repeats,
        flush_l2=flush_l2,
        retry_failed=retry_failed,
        seed=seed,
    )
    result = run(options)
    for line in report(result):
        typer.echo(line)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def replay(
    steps: Annotated[Path, typer.Argument(help="steps.parquet of a run ('simserve run --steps'); its experiment beside it is used.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the plan, the pairs, replay.json and the plot.")],
    device: Annotated[str, typer.Option("--device", help="cuda, cuda:1, npu or cpu.")] = "cuda",
    model: Annotated[str | None, typer.Option("--model", help="Model, when there is no experiment beside the steps.")] = None,
    quantisation: Annotated[str | None, typer.Option("--quantisation", help="Store the model's linear layers so.")] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="Tensor-parallel ranks (one is executed).")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Hardware profile to predict with; default the run's.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Engine profile: its CUDA graphs and host work.")] = None,
    instance: Annotated[int, typer.Option("--instance", help="Instance whose steps are replayed.")] = 0,
    sample: Annotated[int, typer.Option("--sample", help="Steps at most, spread over regimes and durations.")] = 120,
    layers: Annotated[int | None, typer.Option("--layers", help="Execute so many layers and scale up; default as many as fit.")] = None,
    attention: Annotated[str | None, typer.Option("--attention", help="flashinfer, varlen or gather; default the best installed.")] = None,
    spread: Annotated[float, typer.Option("--context-spread", help="Coefficient of variation of contexts in a batch.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample and the contexts.")] = 0,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Write plan.json for another machine and execute nothing.")] = False,
) -> None:
    """Execute steps of a simulated run on a real device and compare their times with the predictions."""
    from simserve.calibration.replay.command import INTERRUPTED
    from simserve.calibration.replay.compare import lines
    from simserve.calibration.replay.prediction import ReplayRequest, make_plan
    from simserve.calibration.replay.session import PLAN, prepare_folder
    from simserve.calibration.replay.session import replay as run

    plan = make_plan(ReplayRequest(steps, model, quantisation, tp, profile, engine, instance, sample, spread, seed))
    if plan_only:
        prepare_folder(out)
        plan.write(out / PLAN)
        typer.echo(f"wrote {out / PLAN}: {len(plan.steps)} steps; run 'python -m simserve.calibration.replay {PLAN}' on the device")
        return
    made = run(plan, device, out, layers=layers, attention=attention, base_dir=steps.parent)
    for line in lines(made):
        typer.echo(line)
    if made["interrupted"]:
        raise typer.Exit(INTERRUPTED)
