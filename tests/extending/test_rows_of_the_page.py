"""docs/architecture.md, "Where a new thing goes": each kind of thing that packages add has a row, and each row a test that adds one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from simserve import plugins
from tests.docs.blocks import ROOT
from tests.extending.package import Package

ROW = re.compile(r"^\| an? ([^|]+) \| `(simserve\.\w+)` \| [^|]+ \| `(test_\w+\.py)` \|$", re.MULTILINE)


def test_each_entry_point_group_has_a_row_and_a_test_that_uses_it() -> None:
    rows = ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert [group for _, group, _ in rows] == list(dict.fromkeys(group for _, group, _ in rows))
    assert {group for _, group, _ in rows} == set(plugins.KINDS)
    for _, group, name in rows:
        text = (ROOT / "tests" / "extending" / name).read_text(encoding="utf-8")
        assert f'[project.entry-points."{group}"]' in text, f"{name} adds nothing to {group}"


def test_the_groups_are_looked_at_where_their_names_say() -> None:
    """A group that no code reads would be an entry point that does nothing."""
    package = Path(plugins.__file__).parent  # which need not lie beside the tests: a wheel is tested so
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py") if path.name != "plugins.py"}
    policies = {f"simserve.{kind}" for kind in ("schedulers", "routers", "controllers", "orders")}
    for group in set(plugins.KINDS) - policies:
        assert any(f'GROUP = "{group}"' in text for text in sources.values()), group
    from simserve.policies import registry

    assert {f"simserve.{kind}" for kind in registry._BUILT_IN} == policies


def test_what_cannot_be_loaded_is_listed_with_the_reason(tmp_path: Path) -> None:
    points = '[project.entry-points."simserve.routers"]\ngood = "good:Good"\nbad = "bad:Bad"\n'
    good = "from simserve.contracts import Router\n\n\nclass Good(Router):\n    def choose(self, request, view):\n        return 0\n"
    package = Package(tmp_path, "two-routers", {"good.py": good, "bad.py": "1 / 0\n"}, points)
    rows = {row["name"]: row for row in json.loads(package.simserve("plugins", "--json"))}
    assert rows["good"]["problem"] == "" and rows["good"]["package"] == rows["bad"]["package"] == "two-routers 1.0"
    assert rows["bad"]["problem"].startswith("routing policy 'bad' of two-routers 1.0 cannot be loaded from bad:Bad: ZeroDivisionError")
    assert "two-routers 1.0" in package.simserve("plugins")


def test_without_packages_nothing_is_listed(tmp_path: Path) -> None:
    package = Package(tmp_path, "nothing", {}, "[project.entry-points]\n")
    assert json.loads(package.simserve("plugins", "--json")) == []
    assert package.simserve("plugins").startswith("No installed package adds anything.")
