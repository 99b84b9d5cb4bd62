"""Which mutants there are, and which are drawn. A mutant is one small change of the source by an operator of cosmic-ray.

A draw is uniform over places (a place is a token and a kind of change, as "this comparison"), then over the changes at that place, so that
an addition, which has eleven wrong operators, is not drawn eleven times as often as a loop. Left out is what no test could see:

- annotations, blocks for type checkers, which arguments are given by name, code that does not compile when changed;
- `==` into `is` and the like: for short text and small integers CPython cannot tell them apart;
- `slots=` and `strict=` (memory, and an assertion that a correct caller never trips), and whether a function remembers its results.
"""

from __future__ import annotations

import ast
import hashlib
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES: dict[str, tuple[str, ...]] = {
    "policies": ("simserve/policies/**/*.py",),
    "workload": ("simserve/workload/**/*.py",),
    "cost": ("simserve/cost/**/*.py",),
    "metrics": ("simserve/catalogue.py", "simserve/report/**/*.py"),
    "study": ("simserve/study/**/*.py",),
    "engine": ("simserve/engine/**/*.py", "simserve/contracts/**/*.py"),
}

DRAWN = ("plot", "plots", "perfetto", "html", "page", "terminal", "markdown")
"""Files and folders of pages, plots, tables and timelines are left out: what they show is looked at, and colours are no facts."""

NOTHING_TO_CHANGE = {
    "name",
    "string",
    "newline",
    "endmarker",
    "arglist",
    "trailer",
    "atom_expr",
    "atom",
    "simple_stmt",
    "fstring",
    "fstring_string",
}

IDENTITY = {"Is", "IsNot"}
NO_FACT = {"slots", "strict"}
MEMORY = {"cache", "lru_cache"}
LEFT_OUT = {"VariableReplacer", "VariableInserter"}


class Mutant(NamedTuple):
    """One change of one file."""

    package: str
    path: str
    """Relative to the repository."""
    line: int
    operator: str
    occurrence: int
    was: str
    """The changed lines, stripped, joined with newlines."""
    now: str

    @property
    def key(self) -> str:
        """The same while the file is edited elsewhere. Two equal changes of equal lines of a file count as one."""
        return f"{self.path}|{self.operator}|{self.was}|{self.now}"


def files(root: Path, package: str) -> list[Path]:
    """The source files of a package, sorted."""
    found = {path for pattern in PACKAGES[package] for path in root.glob(pattern)}
    found = {path for path in found if not any(part.startswith(DRAWN) for part in path.relative_to(root).with_suffix("").parts)}
    found = {path for path in found if not path.stem.endswith(DRAWN)}
    return sorted(found)


def operators() -> dict[str, Any]:
    """Every operator of cosmic-ray that needs no arguments, by its short name."""
    import cosmic_ray.plugins

    names = sorted(cosmic_ray.plugins.operator_names())
    short = {name.split("/")[1]: name for name in names if name.split("/")[1] not in LEFT_OUT}
    kept = {}
    for name, full in short.items():
        family, *change = name.split("_")
        if family == "ReplaceComparisonOperator" and change[1] in IDENTITY and change[0] not in IDENTITY:
            continue
        kept[name] = cosmic_ray.plugins.get_operator(full)()
    return kept


def places(source: str, known: dict[str, Any]) -> dict[tuple[int, int, str], list[tuple[str, int]]]:
    """(line, column, family) -> [(operator, occurrence)]. Occurrences count an operator's places as cosmic-ray does, from 0."""
    from cosmic_ray.ast import ast_nodes, get_ast

    found: dict[tuple[int, int, str], list[tuple[str, int]]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for node in ast_nodes(get_ast(source)):
        if node.type in NOTHING_TO_CHANGE or (node.type == "operator" and not set(node.value) <= set("+-*/%<>&|^@")):
            continue  # no operator of cosmic-ray looks at these
        for name, operator in known.items():
            for (line, column), _ in operator.mutation_positions(node):
                found[line, column, name.split("_")[0]].append((name, seen[name]))
                seen[name] += 1
    return found


class _Meaning(ast.NodeTransformer):
    """What of a module a run can show: no annotations, no imports for type checkers, no arguments of NO_FACT."""

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        """cosmic-ray takes the bare `*` of a signature for a product: which arguments are given by name is not what it asks about."""
        self.generic_visit(node)
        plain = [*node.posonlyargs, *node.args]
        defaults = [*[None] * (len(plain) - len(node.defaults)), *node.defaults, *node.kw_defaults]
        return ast.arguments([], [*plain, *node.kwonlyargs], node.vararg, [], defaults, node.kwarg, [])

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        node.decorator_list = [
            each for each in node.decorator_list if not MEMORY & {n.id for n in ast.walk(each) if isinstance(n, ast.Name)}
        ]
        return node

    def visit_If(self, node: ast.If) -> ast.If | None:
        self.generic_visit(node)
        return None if "TYPE_CHECKING" in ast.dump(node.test) else node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in NO_FACT]
        return node


def meaning(source: str) -> str | None:
    """A text that is equal for two modules that no run can tell apart; None for one that does not compile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "mutant", "exec")
            return ast.dump(_Meaning().visit(ast.parse(source)))
        except (SyntaxError, ValueError):
            return None


def mutated(source: str, operator: str, occurrence: int, known: dict[str, Any]) -> str | None:
    """The source with the change, or None where it is not one that a run could show."""
    from cosmic_ray.mutating import mutate_code

    text: str | None = mutate_code(source, known[operator], occurrence)
    if text is None or (own := meaning(text)) is None or own == meaning(source):
        return None
    return text


def change(before: str, after: str) -> tuple[int, str, str]:
    """(first changed line from 1, the lines that were, the lines that are), stripped."""
    a, b = before.splitlines(), after.splitlines()
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    was, now = ("\n".join(line.strip() for line in lines[start : len(lines) - end]) for lines in (a, b))
    return start + 1, was, now


def draw(root: Path, package: str, seed: int) -> Iterator[Mutant]:
    """Mutants of a package in the order of the seed, each place at most once. Take as many as you like: a prefix is a sample.

    A place has its turn by a hash of the seed, its file and its line's text, so an edit elsewhere leaves the sample as it is.
    """
    known = operators()
    spots: list[tuple[str, Path, list[tuple[str, int]]]] = []
    sources = {path: path.read_text(encoding="utf-8") for path in files(root, package)}
    for path, source in sources.items():
        lines = source.splitlines()
        same: dict[str, int] = defaultdict(int)
        for (line, column, family), choices in sorted(places(source, known).items()):
            name = f"{seed}|{path.relative_to(root).as_posix()}|{lines[line - 1].strip()}|{column}|{family}"
            same[name] += 1
            spots.append((hashlib.sha256(f"{name}|{same[name]}".encode()).hexdigest(), path, choices))
    for turn, path, choices in sorted(spots):
        operator, occurrence = random.Random(turn).choice(choices)
        text = mutated(sources[path], operator, occurrence, known)
        if text is not None:
            line, was, now = change(sources[path], text)
            yield Mutant(package, path.relative_to(root).as_posix(), line, operator, occurrence, was, now)
