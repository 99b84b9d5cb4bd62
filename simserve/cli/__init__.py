"""The command line: one file per command, no logic. Diagnostics go to stderr, answers to stdout."""

from __future__ import annotations

from collections.abc import Sequence

_COLLECT_AFTER = 50_000
"""Objects made and not freed after which garbage is looked for, instead of Python's 700: importing makes objects that stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for anything the user can fix, 130 for Ctrl-C."""
    import gc
    import os
    import sys

    usual = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *usual[1:])
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("SIMSERVE_DEBUG", "0") not in ("", "0")
    try:
        from simserve.cli.root import command

        command().main(args=[a for a in arguments if a != "--debug"], prog_name="simserve")
        return 0
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException as problem:
        if debug:
            raise
        from simserve.cli.failures import report

        return report(problem)
    finally:
        from simserve.cli.failures import flush

        flush()
        gc.set_threshold(*usual)
