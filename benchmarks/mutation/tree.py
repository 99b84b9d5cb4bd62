"""A copy of the repository to break, and one test run in it: a fork of this process, which has the heavy libraries loaded already."""

from __future__ import annotations

import compileall
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAVY = (
    "numpy",
    "pandas",
    "scipy.stats",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "pydantic",
    "hypothesis",
    "typer",
    "rich.table",
    "simpy",
    "yaml",
)
MEMORY_BYTES = 6 << 30
TIMED_OUT = 99
"""Exit code of a run of which one test took far longer than it should."""


def preload() -> None:
    """Imports what every test run needs, once."""
    import importlib

    import pytest  # noqa: F401

    os.environ.setdefault("MPLBACKEND", "agg")
    for name in (*HEAVY, "_pytest.assertion.rewrite", "hypothesis.strategies", "simpy.events", "sortedcontainers", "jinja2", "joblib"):
        importlib.import_module(name)


def copy(repository: Path, tree: Path) -> None:
    """Makes `tree` equal to the files that git knows or would add, and links the measured data beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=repository, capture_output=True, check=True, text=True
    )
    names = {name for name in listed.stdout.split("\0") if name and (repository / name).is_file()}
    for path in tree.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(tree).as_posix() not in names:
            path.unlink()
    for name in names:
        source, target = repository / name, tree / name
        if not target.exists() or target.stat().st_mtime_ns != source.stat().st_mtime_ns or target.stat().st_size != source.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    data = tree.parent / "shared"
    if (repository.parent / "shared").exists() and not data.exists():
        data.symlink_to((repository.parent / "shared").resolve())
    compileall.compile_dir(tree / "simserve", quiet=2)


@contextlib.contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """A file of the tree with another text, and no compiled copy of it, for the time of the block."""
    before, times = path.read_bytes(), path.stat()
    _forget_compiled(path)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        _forget_compiled(path)


def _forget_compiled(path: Path) -> None:
    for file in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        file.unlink()


def pytest_run(tree: Path, arguments: list[str], plugins: list[Any], log: Path, limit_s: float) -> int | None:
    """The exit code of pytest in the tree, in a process of its own; None when it took more processor seconds than the limit, or died."""
    return wait(start_pytest(tree, arguments, plugins, log, limit_s), 20 * limit_s + 60)


def start_pytest(tree: Path, arguments: list[str], plugins: list[Any], log: Path, limit_s: float | None = None) -> int:
    """Forks; pytest runs in the fork, in the tree. The number of the process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.chdir(tree)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        if limit_s is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s) + 1, int(limit_s) + 1))
        sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", str(Path(__file__).resolve().parents[2])))]
        os.environ.update(PYTHONPATH=str(tree), OMP_NUM_THREADS="1")
        _forget_our_own()
        _quick_hypothesis()
        import pytest

        code = int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments], plugins=plugins))
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int, limit_s: float) -> int | None:
    """The exit code of a process; None when a signal ended it, or it had to be ended after so many seconds. Ends what it had started."""
    deadline = time.monotonic() + limit_s
    pause = 0.002
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _kill_group(child)
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None
        if time.monotonic() > deadline:
            _kill_group(child)
            os.waitpid(child, 0)
            return None
        time.sleep(pause)
        pause = min(0.05, 2 * pause)


def _kill_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _forget_our_own() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("simserve", "tests")]:
        del sys.modules[name]


def _quick_hypothesis() -> None:
    """The same examples in every run; the first failing one is enough."""
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settings.load_profile("mutation")
