"""The command group. A command's module is imported when the command runs, so `simserve --help` loads none of them."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from simserve.cli.failures import InterruptError, PipeClosedError
from simserve.cli.group_help import print_help
from simserve.errors import SimserveError

UsageError: Any = typer.BadParameter.__base__
"""Click's; some releases of Typer carry Click inside, where it has another name."""

COMMANDS = {
    "run": "Simulate an experiment: a table, plots and a report.",
    "compare": "Results side by side.",
    "report": "Results, comparisons and studies as one HTML page.",
    "sweep": "Run an experiment over many values of its keys.",
    "capacity": "Find the highest load at which a predicate holds.",
    "plan": "Find the cheapest deployment that meets an SLO.",
    "deploy": "Print an experiment, or a plan, as command lines and Kubernetes manifests.",
    "place": "Find the best placement of prefill and decode instances.",
    "paired": "Compare two configurations over the same seeds.",
    "regress": "Check a suite against its recorded baselines.",
    "experiments": "The bundled experiments: what their papers claim, and ours.",
    "policies": "List the scheduling policies and their parameters.",
    "plugins": "List what installed packages add.",
    "models": "List the bundled model architectures.",
    "hardware": "List the bundled hardware profiles.",
    "engines": "List the engine profiles and their flags.",
    "trace": "Fetch, inspect, convert and generate traces.",
    "calibrate": "Make the numbers true for your machine.",
    "validate": "Compare predictions with measurements.",
    "fit-engine": "Learn an engine's overheads from a load sweep of your own.",
    "schema": "Print the JSON Schema of experiments, for editors.",
    "version": "Print the version.",
}


class LazyGroup(TyperGroup):
    """Commands by name; each lives in `simserve.cli.<name>` as a typer app called `app`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command itself."""
        if cmd_name not in COMMANDS:
            return None
        found = typer.main.get_command(importlib.import_module(f"simserve.cli.{cmd_name.replace('-', '_')}").app)
        found.name = cmd_name
        found.params = [p for p in found.params if p.name not in ("install_completion", "show_completion")]  # not a program of its own
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the group's help, without importing any command."""
        print_help(self.get_usage(ctx), self.help or "", self.get_params(ctx), list(COMMANDS.items()))

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Reads the line; Ctrl-C comes out as an ordinary exception. What the command framework imports for it takes a while."""
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt as problem:
            raise InterruptError from problem

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; Ctrl-C and a closed pipe come out as ordinary exceptions."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as problem:
            raise InterruptError from problem
        except UsageError as problem:
            if "unexpected extra argument" in problem.message and "=" in problem.message:  # --set KEY={a: 1, b: 2} as a shell took it apart
                problem.message += ". Put a change with braces into quotes: --set 'KEY={a: 1, b: 2}'"
            raise
        except BrokenPipeError as problem:
            raise PipeClosedError from problem
        except EOFError as problem:  # of a file that is cut short; the command framework would say "Aborted." to it
            raise SimserveError(
                f"an input ends before it should: {problem}" if str(problem) else "an input ends before it should"
            ) from problem


def command() -> Any:
    """The whole command line as one command object."""
    app = typer.Typer(cls=LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

    @app.callback(help="Simulate LLM serving: this traffic, this model, this hardware, under this policy.")
    def root(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SIMSERVE_DEBUG=1).")] = False) -> None:
        pass  # --debug is read by main(), wherever it stands on the line

    return typer.main.get_command(app)
