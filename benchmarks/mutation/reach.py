"""Which tests reach which lines, and how long each takes: measured once for each test file, and again only for those that changed."""

from __future__ import annotations

import ast
import difflib
import gzip
import hashlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.mutation import sites
from benchmarks.mutation import tree as trees

NOT_RUN = ("tests/test_house.py", "tests/test_project.py", "tests/docs/test_notebooks.py")
"""Tests that look at the source or take minutes to start: a mutant they would catch is one that no fact has caught."""


class _Watch:
    """A pytest plugin: coverage by test, seconds by test, and which tests passed."""

    def __init__(self, coverage: Any) -> None:
        self.coverage, self.seconds, self.failed = coverage, defaultdict(float), set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


class _Session:
    """A pytest plugin: starts coverage before anything of ours is imported, and writes what was found when all tests are over."""

    def __init__(self, root: Path, target: Path, files: list[str]) -> None:
        self.root, self.target, self.files = root, target, files

    def pytest_configure(self, config: Any) -> None:
        import coverage

        self.cover = coverage.Coverage(data_file=None, include=self.files, config_file=False)
        self.watch = _Watch(self.cover)
        config.pluginmanager.register(self.watch)
        self.cover.start()

    def pytest_sessionfinish(self) -> None:
        self.cover.stop()
        data = self.cover.get_data()
        tests = sorted(test for test in self.watch.seconds if test not in self.watch.failed)
        number = {test: i for i, test in enumerate(tests)}
        lines: dict[str, dict[int, list[int]]] = {}
        for file in data.measured_files():
            by_line = {
                line: sorted({number[test] for test in contexts if test in number})
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            lines[Path(file).relative_to(self.root).as_posix()] = by_line
        seconds = [round(self.watch.seconds[test], 4) for test in tests]
        self.target.write_text(json.dumps({"tests": tests, "seconds": seconds, "lines": lines, "failed": sorted(self.watch.failed)}))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def measure(tree: Path, work: Path, folders: list[str], packages: list[str], limit_s: float) -> None:
    """Brings the map of these packages up to date for these test files and those in these folders (relative to the repository)."""
    maps = work / "reach"
    maps.mkdir(exist_ok=True)
    found = sorted(
        {path for folder in folders for path in ((tree / folder).rglob("test_*.py") if (tree / folder).is_dir() else [tree / folder])}
    )
    found = [path for path in found if path.relative_to(tree).as_posix() not in NOT_RUN]
    watched = [str(path) for package in packages for path in sites.files(tree, package)]
    for count, path in enumerate(found, 1):
        name = path.relative_to(tree).as_posix()
        target = maps / (name.replace("/", "--") + ".json.gz")
        if target.exists():
            old = _read(target)
            if old["hash"] == _hash(path) and set(packages) <= set(old["packages"]):
                continue
        began = time.monotonic()
        raw = maps / "raw.json"
        raw.unlink(missing_ok=True)
        trees.pytest_run(tree, [name], [_Session(tree, raw, watched)], work / "reach.log", limit_s)
        if not raw.exists():
            print(f"reach {count}/{len(found)} {name}: no answer in {limit_s:.0f} s", file=sys.stderr)
            continue
        content = json.loads(raw.read_text())
        content["hash"], content["packages"] = _hash(path), packages
        content["sources"] = {file: (tree / file).read_text(encoding="utf-8") for file in content["lines"]}
        with gzip.open(target, "wt", encoding="utf-8", compresslevel=3) as out:
            json.dump(content, out)
        failed = f", {len(content['failed'])} fail" if content["failed"] else ""
        print(
            f"reach {count}/{len(found)} {name}: {len(content['tests'])} tests{failed}, {time.monotonic() - began:.1f} s", file=sys.stderr
        )


def _read(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt", encoding="utf-8") as source:
        content: dict[str, Any] = json.load(source)
    return content


class Reach:
    """The map of a tree. Lines are followed through edits made since it was measured."""

    def __init__(self, tree: Path, work: Path) -> None:
        self.tree = tree
        self.seconds: dict[str, float] = {}
        self._lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._importers: dict[str, set[str]] = defaultdict(set)
        now: dict[str, str] = {}
        for path in sorted((work / "reach").glob("*.json.gz")):
            content = _read(path)
            tests = content["tests"]
            if not tests or not (tree / tests[0].split("::")[0]).exists():
                continue
            self.seconds.update(zip(tests, content["seconds"], strict=True))
            for file, lines in content["lines"].items():
                if not (tree / file).exists():
                    continue
                self._importers[file].update(tests)
                text = now.setdefault(file, (tree / file).read_text(encoding="utf-8"))
                moved = _moved(content["sources"][file], text)
                for line, numbers in lines.items():
                    if (new := moved.get(int(line)) if moved is not None else int(line)) is not None:
                        self._lines[file][new].update(tests[i] for i in numbers)

    def in_function(self, file: str, line: int) -> bool:
        """Whether a line is inside a function: else it runs at import."""
        return _statement((self.tree / file).read_text(encoding="utf-8"), line)[2]

    def tests(self, file: str, line: int) -> set[str]:
        """The tests that reach the statement at a line. What is outside of functions runs once, at import, and may matter to all who
        imported it: all tests of the test files that did.
        """
        first, last, in_function = _statement((self.tree / file).read_text(encoding="utf-8"), line)
        if not in_function:
            return self._importers[file]
        lines = self._lines.get(file, {})
        return set().union(*(lines.get(i, set()) for i in range(first, last + 1)))


def _moved(before: str, after: str) -> dict[int, int] | None:
    """Line numbers of a text -> those of an edited one; None when they are equal."""
    if before == after:
        return None
    a, b = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    moved: dict[int, int] = {}
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "insert" and m > k:
            moved.update({i + n + 1: min(k + n, m - 1) + 1 for n in range(j - i)})
    return moved


def _statement(source: str, line: int) -> tuple[int, int, bool]:
    """First and last line of the smallest statement at a line (of one with a body, of its head), and whether a function holds it."""
    best, size = (line, line, False), sys.maxsize
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            last = max(first, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            if first <= line <= last and last - first < size:
                best, size = (first, last, inside), last - first
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)]
    return best
