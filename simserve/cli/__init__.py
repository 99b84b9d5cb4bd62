"""The command line: one file per command, no logic. Diagnostics go to stderr, answers to stdout."""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers read it: what is imported here comes before Ctrl-C is answered
if TYPE_CHECKING:
    from collections.abc import Sequence

_COLLECT_AFTER = 200_000
"""Objects made and not freed after which garbage is looked for, instead of Python's 700: importing makes a hundred thousand that stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for anything the user can fix, 130 for Ctrl-C, 143 for SIGTERM."""
    import sys

    from simserve.cli.signals import Signals, TerminatedError

    signals = Signals()
    arguments, for_good = list(sys.argv[1:] if argv is None else argv), argv is None
    try:
        signals.catch()
        return _run(arguments, for_good)
    except TerminatedError as problem:
        return _told(problem)
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # so Rich answers to a reader that has gone
            from simserve.cli.failures import PIPE_CLOSED

            return PIPE_CLOSED
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException as problem:
        if _debug(arguments):
            raise
        return _told(problem, signals.problem)
    finally:
        from simserve.cli.failures import flush

        flush()
        signals.release(for_good=for_good)


def _run(arguments: list[str], for_good: bool) -> int:
    """Garbage is looked for rarely meanwhile, and not at all from then on where Python itself is about to end: it would look through all
    objects three times, before it gives their memory back. Things of other packages may wait for that."""
    import gc

    usual = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *usual[1:])
    try:
        from simserve.cli.root import command

        command().main(args=[a for a in arguments if a != "--debug"], prog_name="simserve")
        return 0
    finally:
        if for_good and _of_ours_alone():
            gc.disable()
            gc.freeze()
        else:
            gc.set_threshold(*usual)


def _of_ours_alone() -> bool:
    """Whether no installed package adds anything to simserve."""
    import sys

    plugins = sys.modules.get("simserve.plugins")  # where it was not needed, nothing of a package's was
    return plugins is None or not any(plugins.found(group) for group in plugins.KINDS)


def _debug(arguments: list[str]) -> bool:
    import os

    return "--debug" in arguments or os.environ.get("SIMSERVE_DEBUG", "0") not in ("", "0")


def _told(problem: BaseException, signal: BaseException | None = None) -> int:
    from simserve.cli.failures import report

    return report(problem, signal)
