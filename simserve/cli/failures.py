"""What ends a command early, as one message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simserve.cli.signals import TERMINATED, TerminatedError
from simserve.errors import SimserveError
from simserve.files.words import clipped

INTERRUPTED = 130
PIPE_CLOSED = 141


class InterruptError(Exception):
    """Ctrl-C, as an ordinary exception: the command framework gives KeyboardInterrupt meanings of its own."""


class PipeClosedError(Exception):
    """The reader of stdout has gone (`simserve policies | head -1`)."""


class ResultIsThereError(Exception):
    """`problem` came when the result lay in `target` already, complete or `without` something."""

    def __init__(self, target: Path, problem: BaseException, without: str = "") -> None:
        super().__init__(str(problem))
        self.target, self.problem, self.without = target, problem, without


@contextmanager
def result_is_in(target: Path) -> Iterator[None]:
    """What ends this block is told as of a result that lies in `target`."""
    try:
        yield
    except BaseException as problem:
        if isinstance(problem, BrokenPipeError | SystemExit) and not isinstance(problem, TerminatedError):  # Rich ends so, too
            raise
        raise ResultIsThereError(target, problem) from problem


def report(problem: BaseException, signal: BaseException | None = None) -> int:
    """Prints what went wrong, without a traceback, and returns the exit code. `signal`: what has come, whatever error followed."""
    if isinstance(problem, ResultIsThereError):
        text, code = _words(signal or problem.problem)
        by_signal = code in (INTERRUPTED, TERMINATED)
        why = f"{text.partition(':')[0]}:" if by_signal else f"{text.removesuffix('; nothing was kept')};"
        without = f", without {problem.without}" if problem.without else ""
        print(f"{why} the result is in {problem.target}{without}", file=sys.stderr)
        return code
    problem = signal or problem
    if isinstance(problem, PipeClosedError | BrokenPipeError):
        return PIPE_CLOSED
    text, code = _words(problem)
    print(text, file=sys.stderr)
    return code


def handled() -> None:
    """Tells the interpreter that Ctrl-C has been dealt with: one that ended a generated class body (`exec` of a text, as named tuples and
    dataclasses do) leaves a mark by which Python would end by the signal instead of with our exit code. The next `exec` clears it.
    """
    exec("")


def flush() -> None:
    """Pushes stdout out; when it is not read any more, stops Python from complaining about that at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _words(problem: BaseException) -> tuple[str, int]:
    if isinstance(problem, SimserveError):
        return f"error: {problem}", problem.exit_code
    if isinstance(problem, InterruptError | KeyboardInterrupt):
        handled()
        return "interrupted: no result was written", INTERRUPTED
    if isinstance(problem, TerminatedError):
        handled()
        return "terminated: no result was written", TERMINATED
    if isinstance(problem, OSError):
        where = f" {clipped(str(problem.filename), 200)}" if problem.filename else ""
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"error: the disk is full: cannot write{where}; nothing was kept", 2
        return f"error:{where}{':' if where else ''} {problem.strerror or problem}", 2
    if isinstance(problem, MemoryError):
        return "error: out of memory; a shorter window of the trace (duration_s, limit) needs less", 2
    if (blamed := _third_party(problem)) is not None:
        return f"error: {blamed}", blamed.exit_code
    what = f"{type(problem).__name__}: {clipped(str(problem), 500)}"
    return f"error: a bug in simserve: {what}\nPlease report it with the output of the same command and --debug.", 1


def _third_party(problem: BaseException) -> SimserveError | None:
    """The mistake of an installed policy, if it is one."""
    try:
        from simserve.policies.blame import as_policy_error

        return as_policy_error(problem)
    except Exception:  # whatever is to blame, the first problem must be reported
        return None
