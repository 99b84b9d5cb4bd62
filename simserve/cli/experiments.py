"""`simserve experiments`: the bundled experiments, what their papers claim and what comes out here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simserve.config.experiment import Experiment
    from simserve.report.result import Result
    from simserve.study.claims.record import Recorded

app = typer.Typer(help="The bundled experiments: their papers' claims, ours, in or out of the band.")

_Priority = Annotated[str, typer.Option("--priority", metavar="A|B|C", help="Only these: A is cheap, B nightly, C needs measurements.")]


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    priority: _Priority = "",
    out: Annotated[bool, typer.Option("--out-of-band", help="Only claims out of their bands.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the claims of the bundled experiments with what was recorded for them, then the experiments without claims."""
    if context.invoked_subcommand is not None:
        return
    from simserve import resources
    from simserve.files.yaml_text import read as read_yaml
    from simserve.study.claims import record as claims_record

    _known_priority(priority)
    data = {name: content for name, content in claims_record.claimed().items() if claims_record.priority(content) in (priority or "ABC")}
    records = {name: recorded for name, recorded in claims_record.read().items() if name in data}
    if as_json:
        print(json.dumps({name: _as_dict(recorded) for name, recorded in records.items()}, indent=2, sort_keys=True))
        return
    from simserve.cli.claims import show_counts, show_outcomes

    for name, content in data.items():
        recorded = records.get(name)
        outcomes = () if recorded is None else tuple(o for o in recorded.outcomes if not (out and o.reproduced))
        if outcomes or (recorded is None and not out):
            _heading(name, content, recorded)
            show_outcomes(outcomes)
    if not out and not priority:
        from simserve.cli.tables import show

        others = [name for name in resources.available("experiments") if name not in data]
        rows = [(name, str(read_yaml(resources.find("experiments", name)).data.get("description", ""))) for name in others]
        show(("experiments without claims", "what they show"), rows)
    print()
    show_counts([outcome for recorded in records.values() for outcome in recorded.outcomes])
    print("`simserve experiments run NAME` checks an experiment again.")


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Bundled experiments that make claims.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    priority: _Priority = "",
    record: Annotated[Path | None, typer.Option("--record", help="Record to rewrite.", show_default="the one of a checkout")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Run experiments again, show their claims beside what comes out, and rewrite the record and the page made of it."""
    from simserve.cli.claims import show_outcomes
    from simserve.errors import ConfigError
    from simserve.study.claims import record as claims_record

    _known_priority(priority)
    chosen = claims_record.chosen(names or (), priorities=priority, everything=everything)
    if not chosen:
        raise ConfigError("name experiments, or choose them with --priority A or --all; `simserve experiments` lists them")
    if record is not None:
        claims_record.check(record)  # what is wrong with it is said before anything runs
    content = claims_record.claimed()
    found: dict[str, Recorded] = {}
    for name in chosen:
        found[name] = claims_record.measure(name, run=_with_progress(quiet))
        if not as_json:
            _heading(name, content[name], found[name])
            show_outcomes(found[name].outcomes)
        _keep(found, record)  # after each, so that an interruption costs one
    if as_json:
        print(json.dumps({name: _as_dict(recorded) for name, recorded in found.items()}, indent=2, sort_keys=True))
    if not quiet and record is None and claims_record.checkout() is None:
        print("not recorded: this is an installed copy; --record FILE keeps the outcomes", file=sys.stderr)


def _keep(found: dict[str, Recorded], record: Path | None) -> None:
    """Rewrites the record, and in a checkout the pages that show it."""
    from simserve.study.claims import markdown as claims_markdown
    from simserve.study.claims import record as claims_record

    root = claims_record.checkout()
    if record is None and root is None:
        return
    known = claims_record.claimed()
    path = record or claims_record.record_path()
    merged = {**{name: old for name, old in claims_record.read(path).items() if name in known}, **found}
    claims_record.write(merged, path)
    if record is None and root is not None:
        for page, made in (("docs/serving-accuracy.md", claims_markdown.page), ("README.md", claims_markdown.summary)):
            if (root / page).is_file():
                claims_markdown.rewrite(root / page, made(merged))


def _with_progress(quiet: bool) -> Any:
    from simserve import api
    from simserve.progress.run import shown

    def one(experiment: Experiment) -> Result:
        if not quiet:
            print(experiment.name, file=sys.stderr)
        with shown(not quiet) as progress:
            return api.run(experiment, progress=progress or False)

    return one


def _heading(name: str, content: dict[str, Any], recorded: Recorded | None) -> None:
    """Name, paper, how many claims are in, kind by kind; whether the record is older than what it was made of."""
    from rich.console import Console
    from rich.markup import escape

    from simserve.study.claims import kinds
    from simserve.study.claims.record import older_than

    paper = content.get("paper") or {"title": str(content.get("description", "")), "reference": ""}
    about = ", ".join(part for part in (paper["title"], paper["reference"]) if part)
    count = "not run yet" if recorded is None else f"in: {kinds.heading(recorded.outcomes)}"
    console = Console()
    console.print(f"[bold]{escape(name)}[/bold]  {escape(about)}  ({count})", highlight=False)
    if recorded is not None and (changed := older_than(recorded)):
        text = f"recorded before {', '.join(changed)} changed; run it again"
        console.print(text, style="yellow", highlight=False)


def _as_dict(recorded: Recorded) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(recorded)


def _known_priority(priority: str) -> None:
    if priority not in ("", "A", "B", "C"):
        from simserve.errors import ConfigError

        raise ConfigError(f"--priority: found '{priority}', expected A, B or C")
