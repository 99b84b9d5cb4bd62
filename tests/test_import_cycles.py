"""Nothing in simserve needs, in a circle, what needs it: packages and modules, imports inside functions and for type checkers included.

What a module is understood with is what it imports, whatever for. Two that import each other are one thing in two files.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Graph = dict[str, dict[str, str]]
"""Importer -> imported -> where, as `file:line`."""


def _of(package: str, names: str) -> frozenset[str]:
    return frozenset(f"simserve.{package}.{name}" for name in names.split())


KNOWN = (
    _of("engine", "batch kv_transfers instance lane listener loading migration pipeline plan runner stage_span view"),
    _of("engine", "cluster control"),
    _of("engine", "cancellation check collection guard simulate"),
)
"""Groups of modules that still import each other. None may be added, and none may stay here that has been taken apart."""


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below `root / simserve`; a package is its `__init__.py`."""
    found = {}
    for path in sorted((root / "simserve").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every name that a file imports, anywhere in it, as `a.b.c`, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def of_modules(root: Path) -> Graph:
    """Who imports whom among modules."""
    known = modules(root)
    graph: Graph = {name: {} for name in known}
    for name, path in known.items():
        for target, line in imported(path):
            if target.partition(".")[0] != "simserve":
                continue
            while target not in known:  # a name in a module
                target = target.rpartition(".")[0]
            if target != name:
                graph[name].setdefault(target, f"{path.relative_to(root)}:{line}")
    return graph


def of_packages(graph: Graph) -> Graph:
    """The same among the folders of `simserve` and the modules that lie beside them; `simserve` itself is its `__init__.py`."""
    found: Graph = {}
    for name, targets in graph.items():
        own = _package(name)
        found.setdefault(own, {})
        for target, where in targets.items():
            if _package(target) != own:
                found[own].setdefault(_package(target), where)
    return found


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def groups(graph: Mapping[str, Mapping[str, str]]) -> list[frozenset[str]]:
    """The sets of nodes, more than one, in which each is reached from each (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(frozenset(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def shortest(graph: Mapping[str, Mapping[str, str]], group: frozenset[str]) -> str:
    """A shortest circle in a group: `a -> b (file:line) -> a (file:line)`."""
    circles = []
    for start in sorted(group):
        paths = [[start]]
        seen = {start}
        for path in paths:  # grows while it is walked: breadth first
            for target in sorted(set(graph[path[-1]]) & group):
                if target == start:
                    circles.append([*path, start])
                elif target not in seen:
                    seen.add(target)
                    paths.append([*path, target])
    circle = min(circles, key=len)
    return circle[0] + "".join(f" -> {target} ({graph[source][target]})" for source, target in pairwise(circle))


def test_no_two_packages_need_each_other() -> None:
    graph = of_packages(of_modules(ROOT))
    assert {"simserve", "simserve.api", "simserve.engine", "simserve.study", "simserve.errors"} <= set(graph)
    assert [shortest(graph, group) for group in groups(graph)] == []


def test_no_two_modules_need_each_other() -> None:
    graph = of_modules(ROOT)
    found = groups(graph)
    assert [shortest(graph, group) for group in found if not any(group <= known for known in KNOWN)] == []
    assert [sorted(known) for known in KNOWN if known not in found] == []


def _tree(root: Path, **files: str) -> Graph:
    for name, text in files.items():
        path = root / "simserve" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "simserve" / "__init__.py").write_text("")
    return of_modules(root)


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path: Path) -> None:
    graph = _tree(
        tmp_path,
        a__one="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from simserve.b.two import Two\n",
        b__two="def late():\n    import simserve.c.three\n",
        c__three="\nfrom simserve.a import one\n",
        c__four="from simserve.c.three import anything\n",
    )
    (group,) = groups(graph)
    assert group == {"simserve.a.one", "simserve.b.two", "simserve.c.three"}
    circle = "simserve.a.one -> simserve.b.two (simserve/a/one.py:3) -> simserve.c.three (simserve/b/two.py:2)"
    assert shortest(graph, group) == f"{circle} -> simserve.a.one (simserve/c/three.py:2)"
    assert groups(of_packages(graph)) == [{"simserve.a", "simserve.b", "simserve.c"}]


def test_two_packages_may_not_need_each_other_through_different_modules(tmp_path: Path) -> None:
    graph = _tree(tmp_path, a__low="", a__high="from simserve.b.low import x\n", b__low="", b__high="from simserve.a.low import x\n")
    assert groups(graph) == []
    assert groups(of_packages(graph)) == [{"simserve.a", "simserve.b"}]


def test_what_imports_the_whole_package_needs_all_that_it_exports(tmp_path: Path) -> None:
    graph = _tree(tmp_path, a__one="import simserve\n")
    (tmp_path / "simserve" / "__init__.py").write_text("from simserve.a.one import x\n")
    assert groups(of_modules(tmp_path)) == [{"simserve", "simserve.a.one"}]
    assert groups(graph) == []
