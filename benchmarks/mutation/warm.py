"""The quick way to try a mutant: a pytest session that has collected every test once, and forks for each mutant.

In the fork the code of the functions that the mutant changes is exchanged, caches are emptied, and the tests run at once: nothing is
imported or collected again. A mutant outside of functions (a default, a constant, a base class) cannot be tried so; and what a test
module had made before the fork was made by the right code, so a mutant that survives here is tried again from the beginning (`trial.py`).
"""

from __future__ import annotations

import functools
import gc
import inspect
import json
import os
import signal
import socket
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from benchmarks.mutation import tree as trees

FAILED, TOO_LATE, NOT_HERE = 1, 2, 3


class Warm:
    """A process with everything collected. `ask` may be called again and again."""

    def __init__(self, tree: Path, files: list[str], log: Path) -> None:
        self._here, there = socket.socketpair()
        self._process = trees.start_pytest(tree, files, [_Loop(there)], log)
        there.close()
        self._lines = self._here.makefile("r", encoding="utf-8")
        self.ready = self._lines.readline() == "ready\n"

    def ask(self, path: Path, before: str, after: str, tests: list[str], limits_s: list[float]) -> tuple[int, str]:
        """(0 or FAILED or TOO_LATE or NOT_HERE, the test at which it ended) of a file's text `after` in the place of `before`."""
        question = {"path": str(path), "before": before, "after": after, "tests": tests, "limits_s": limits_s}
        self._here.sendall((json.dumps(question) + "\n").encode())
        answer = self._lines.readline()
        if not answer:
            self.ready = False
            return NOT_HERE, ""
        code, by = json.loads(answer)
        return code, by

    def close(self) -> None:
        """Ends the process."""
        self._lines.close()
        self._here.close()
        trees.wait(self._process, 10.0)


class _Loop:
    """A pytest plugin whose test loop answers questions."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.told: int | None = None
        self.at = ""

    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.freeze()
        self.connection.sendall(b"ready\n")
        with self.connection.makefile("r", encoding="utf-8") as questions:
            for line in questions:
                question = json.loads(line)
                answer = self._answer(question, [items[test] for test in question["tests"] if test in items])
                self.connection.sendall((json.dumps(answer) + "\n").encode())
        return True

    def _answer(self, question: dict[str, Any], items: list[Any]) -> tuple[int, str]:
        """Forks, and reads the name of each test that the child begins."""
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            code = NOT_HERE
            try:
                os.close(reads)
                os.setsid()
                self.told = writes
                gc.unfreeze()
                if items and exchange(question["path"], question["before"], question["after"]):
                    code = 0
                    self._run(items, question["limits_s"])
            except BaseException:
                code = FAILED
            finally:
                os._exit(code)
        os.close(writes)
        status = trees.wait(child, 20 * sum(question["limits_s"]) + 60)
        with os.fdopen(reads, "rb") as told:
            begun = told.read().decode().splitlines()
        by = begun[-1] if begun else ""
        if status is None or status == trees.TIMED_OUT:
            return TOO_LATE, by
        return (status if status in (0, NOT_HERE) else FAILED), by

    def _run(self, items: list[Any], limits_s: list[float]) -> None:
        signal.signal(signal.SIGVTALRM, lambda *_: os._exit(trees.TIMED_OUT))
        for item, following, limit_s in zip(items, [*items[1:], None], limits_s, strict=False):
            assert self.told is not None
            os.write(self.told, item.nodeid.encode() + b"\n")
            signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.told is not None:
            os._exit(FAILED)


def exchange(path: str, before: str, after: str) -> bool:
    """Gives the functions of a loaded file the code of its text `after`. False where more than functions differ, or none is loaded."""
    old, new = compile(before, path, "exec"), compile(after, path, "exec")
    codes: dict[tuple[str, int], CodeType] = {}
    if not _differing(old, new, codes) or not codes:
        return False
    found = False
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper):
            if str(getattr(thing, "__module__", "")).startswith(("simserve", "tests", "test_")):
                thing.cache_clear()
        elif type(thing) is FunctionType and thing.__code__.co_filename == path:
            code = codes.get((thing.__code__.co_qualname, thing.__code__.co_firstlineno))
            if code is not None:
                if code.co_freevars != thing.__code__.co_freevars:
                    return False
                thing.__code__ = code
                found = True
    return found


def _differing(old: CodeType, new: CodeType, codes: dict[tuple[str, int], CodeType]) -> bool:
    """Collects the functions whose code differs, by their name and line in the old file. False where a module or a class body does."""
    if old == new:
        return True
    inside_old = [const for const in old.co_consts if isinstance(const, CodeType)]
    inside_new = [const for const in new.co_consts if isinstance(const, CodeType)]
    is_function = bool(old.co_flags & inspect.CO_OPTIMIZED)
    if is_function:
        codes[old.co_qualname, old.co_firstlineno] = new
    else:
        plain = [[const for const in code.co_consts if not isinstance(const, CodeType)] for code in (old, new)]
        if old.co_code != new.co_code or old.co_names != new.co_names or repr(plain[0]) != repr(plain[1]):
            return False
    if len(inside_old) != len(inside_new):
        return is_function
    return all(_differing(a, b, codes) for a, b in zip(inside_old, inside_new, strict=True))


def limit_s(seconds: float) -> float:
    """Processor seconds that a test may take: one that takes far longer than it should is endless."""
    return 10 * seconds + 20
