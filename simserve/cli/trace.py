"""`simserve trace`: fetch, info, formats, convert, generate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simserve.workload.requests import RequestTable

app = typer.Typer(no_args_is_help=True, help="Fetch, inspect, convert and generate traces.")

_Format = Annotated[
    str | None,
    typer.Option("--format", help="A name that `simserve trace formats` lists; else told by the file."),
]
_Start = Annotated[float, typer.Option("--start-s", help="Window start, seconds after the first request.")]
_Duration = Annotated[float | None, typer.Option("--duration-s", help="Window length, seconds.")]
_BlockTokens = Annotated[int | None, typer.Option("--block-tokens", min=1, help="Prompt tokens per content id; else the format's.")]
_Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


class TimeUnit(StrEnum):
    """Units of times that are numbers."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


_TimeUnit = Annotated[TimeUnit | None, typer.Option("--time-unit", help="Unit of the file's times; else the format's.")]


class Schema(StrEnum):
    """Column layouts that can be written."""

    simserve = "simserve"
    burstgpt = "burstgpt"


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="burstgpt, azure or mooncake.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to put the files in.")] = Path("traces"),
    mirror: Annotated[str | None, typer.Option("--mirror", help="Base URL to use instead of the publisher's.")] = None,
) -> None:
    """Download a publisher's trace; checked against its sha256, resumed when interrupted."""
    from simserve.progress.download import downloads
    from simserve.workload.fetch import fetch_trace

    with downloads() as progress:
        paths = fetch_trace(name, out, mirror=mirror, progress=progress)
    for path in paths:
        typer.echo(str(path))


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="Trace file, or the name of a bundled trace.")],
    format: _Format = None,
    time_unit: _TimeUnit = None,
    block_tokens: _BlockTokens = None,
    start_s: _Start = 0.0,
    duration_s: _Duration = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the trace into this PNG.")] = None,
) -> None:
    """Show what a trace was taken for, rates, burstiness, lengths, sessions, prefix reuse and failures."""
    from simserve.workload.config import find_trace_file
    from simserve.workload.report import print_statistics
    from simserve.workload.statistics import trace_statistics
    from simserve.workload.trace import read_trace

    where, unit = find_trace_file(path, Path.cwd()), time_unit.value if time_unit else None
    table = read_trace(where, format, time_unit=unit, block_tokens=block_tokens, start_s=start_s, duration_s=duration_s)
    print_statistics(trace_statistics(table), table.provenance, as_json=json)
    if plot is not None:
        from simserve.workload.plot import plot_trace

        plot_trace(table, plot, table.provenance["file"])


@app.command(name="formats")
def list_formats(json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False) -> None:
    """List the trace formats: what their files are known by, and the package of those that are not built in."""
    from simserve.cli import tables
    from simserve.workload import formats
    from simserve.workload.readers import known

    packages = {name: plugin.package for name, plugin in formats.of_packages().items()}
    if json:
        tables.as_json(
            {
                "format": name,
                "files": one.files,
                "known_by": list(one.known_by),
                "about": one.about,
                "package": packages.get(name, "simserve"),
            }
            for name, one in known().items()
        )
        return
    rows = []
    for name, one in known().items():
        about = f"{one.about} ({packages[name]})" if packages.get(name) else one.about
        rows.append((name, one.files, ", ".join(one.known_by), about))
    tables.show(("format", "files", "known by", "what it is"), rows)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Trace file, or the name of a bundled trace.")],
    target: Annotated[Path, typer.Argument(help="File to write: .csv, .jsonl (also .gz) or .parquet.")],
    format: _Format = None,
    time_unit: _TimeUnit = None,
    block_tokens: _BlockTokens = None,
    schema: Annotated[Schema, typer.Option("--schema", help="Columns to write.")] = Schema.simserve,
    start_s: _Start = 0.0,
    duration_s: _Duration = None,
    rate_scale: Annotated[float, typer.Option("--rate-scale", help="Divide all times by this.")] = 1.0,
    limit: Annotated[int | None, typer.Option("--limit", help="Keep the first requests, this many.")] = None,
    force: _Force = False,
) -> None:
    """Write a trace, or a window of it, in another format."""
    from simserve.workload.config import find_trace_file
    from simserve.workload.shaping import options_from
    from simserve.workload.trace import read_trace, write_trace

    where, unit = find_trace_file(source, Path.cwd()), time_unit.value if time_unit else None
    options = options_from({"start_s": start_s, "duration_s": duration_s, "rate_scale": rate_scale, "limit": limit})
    table = read_trace(where, format, options=options, time_unit=unit, block_tokens=block_tokens)
    write_trace(table, target, schema=schema.value, overwrite=force)
    typer.echo(f"{target}: {len(table)} requests")
    _say_what_is_lost(table, schema)


@app.command()
def generate(
    source: Annotated[str, typer.Argument(help="burstgpt-like, or a YAML file that holds a `workload:` section.")],
    target: Annotated[Path, typer.Argument(help="File to write: .csv, .jsonl (also .gz) or .parquet.")],
    days: Annotated[float, typer.Option("--days", help="burstgpt-like: length, days.")] = 61.0,
    start_day: Annotated[float, typer.Option("--start-day", help="burstgpt-like: first day (API traffic begins on day 9).")] = 0.0,
    sessions: Annotated[bool, typer.Option("--sessions", help="burstgpt-like: conversations of several turns.")] = False,
    schema: Annotated[Schema, typer.Option("--schema", help="Columns to write.")] = Schema.simserve,
    seed: _Seed = 0,
    force: _Force = False,
) -> None:
    """Make a synthetic trace."""
    from simserve.workload.generate import generate_trace
    from simserve.workload.trace import write_trace

    table = generate_trace(source, days=days, start_day=start_day, sessions=sessions, seed=seed)
    write_trace(table, target, schema=schema.value, overwrite=force)
    typer.echo(f"{target}: {len(table)} requests")
    _say_what_is_lost(table, schema)


def _say_what_is_lost(table: RequestTable, schema: Schema) -> None:
    from simserve.workload.writing import not_written

    lost = not_written(table, schema.value)
    if lost:
        typer.echo(f"not in the file, for the {schema.value} schema has no place for it: {', '.join(lost)}", err=True)
    for note in table.provenance.get("notes", ()):
        typer.echo(f"note: {note}", err=True)
