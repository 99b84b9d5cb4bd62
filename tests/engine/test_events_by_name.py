"""Every event of the clock has a name: the table in events.py is what the engine schedules."""

from __future__ import annotations

import ast
from pathlib import Path

import simserve.engine
from simserve.engine import events

FOLDER = Path(simserve.engine.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def scheduled(path: Path) -> list[ast.expr | None]:
    """The priority of each `clock.at(...)` of a file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [
        call.args[2] if len(call.args) > 2 else None
        for call in calls
        if call.func.attr == "at" and "clock" in ast.unparse(call.func.value)  # type: ignore[attr-defined]
    ]


def names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)} & set(events.EVENTS)


def test_nothing_is_scheduled_without_a_name() -> None:
    for path in FOLDER.glob("*.py"):
        for priority in scheduled(path):
            assert priority is not None, f"{path.name} schedules an event without its number"
            own = ast.unparse(priority).endswith("priority")  # of a lane, a waker
            assert own or names(priority), f"{path.name} schedules {ast.unparse(priority)}, which events.py does not name"


def test_the_table_says_who_schedules_what() -> None:
    for name, (number, modules) in events.EVENTS.items():
        assert getattr(events, name) == number
        for module in modules.split(", "):
            text = (FOLDER / f"{module}.py").read_text()
            assert name in text, f"EVENTS says that {module}.py schedules {name}"
    for path in FOLDER.glob("*.py"):
        used = {name for name in events.EVENTS if name in path.read_text()}
        assert path.name == "events.py" or used <= {
            name for name, (_, modules) in events.EVENTS.items() if path.stem in modules.split(", ")
        }


def test_the_architecture_page_has_the_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for name, (_, modules) in events.EVENTS.items():
        row = next((line for line in rows if line.startswith(f"| `{name}`")), None)
        assert row is not None, f"docs/architecture.md does not tell of {name}"
        assert all(f"`{module}`" in row for module in modules.split(", ")), row
