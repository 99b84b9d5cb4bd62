"""Ctrl-C and SIGTERM at any moment: what they raise, and that nothing in between makes something else of it.

Python raises KeyboardInterrupt wherever it happens to be. Inside a call from compiled code (pydantic's, numpy's) that may come out as
another error, and inside a destructor it is printed and forgotten. So it is remembered here that a signal has come: whatever error follows
is its answer, and one that was forgotten is raised again.
"""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S = 0.002

TERMINATED = 128 + signal.SIGTERM
"""Exit code, as a shell writes it."""


class TerminatedError(SystemExit):
    """SIGTERM, as an exception that unwinds, so that unfinished output is removed."""


class Signals:
    """Catches both signals from `catch` to `release`. `came` is the number of the one that has come, None as long as none has.

    The first raises KeyboardInterrupt or TerminatedError; after it, the next one ends the process as it would without us.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: list[tuple[int, Any]] = []
        self._hook = sys.unraisablehook

    @property
    def problem(self) -> BaseException | None:
        """What the signal that has come stands for."""
        if self.came is None:
            return None
        return TerminatedError(TERMINATED) if self.came == signal.SIGTERM else KeyboardInterrupt()

    def catch(self) -> None:
        """From now on. Only the main thread can: elsewhere nothing changes."""
        try:
            for number in _SIGNALS:
                self._before.append((number, signal.signal(number, self._raise)))
        except ValueError:
            return
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable

    def release(self, *, for_good: bool) -> None:
        """As it was before; `for_good`, when Python itself is about to end: a signal then ends it without a word."""
        if not self._before:
            return
        sys.unraisablehook = self._hook
        for number, before in self._before:
            signal.signal(number, signal.SIG_DFL if for_good else before)
        self._before.clear()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.came = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._raise_now()

    def _raise_now(self, *_: Any) -> None:
        problem = self.problem
        if problem is not None:
            raise problem

    def _unraisable(self, what: Any) -> None:
        ours = self.came is not None and isinstance(what.exc_value, KeyboardInterrupt | TerminatedError)
        if ours and hasattr(signal, "setitimer"):
            # A moment later: raised here, it would be forgotten again.
            self._before.append((signal.SIGALRM, signal.signal(signal.SIGALRM, self._raise_now)))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        else:
            self._hook(what)
