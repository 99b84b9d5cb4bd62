"""Collections of garbage: few while a command runs, none when Python ends with it, and as they were for who calls `main` as a function."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from simserve.cli import main
from tests.extending.package import Package


@pytest.mark.parametrize("arguments", [["version"], ["run", "no-such-experiment"]])
def test_called_as_a_function_it_leaves_collections_as_they_were(arguments: list[str]) -> None:
    before, frozen = (gc.get_threshold(), gc.isenabled()), gc.get_freeze_count()
    main(arguments)
    assert (gc.get_threshold(), gc.isenabled()) == before
    assert gc.get_freeze_count() <= frozen


PROGRAM = """
import atexit, gc, sys
from simserve.cli import main
code, collections = main(), []
gc.callbacks.append(lambda phase, info: collections.append(phase))
atexit.register(lambda: print("AT EXIT", gc.isenabled(), gc.get_freeze_count() > 0, len(collections)))
sys.exit(code)
"""


@pytest.mark.parametrize(("argument", "code"), [("policies", 0), ("nonsense", 2)])
def test_a_program_ends_without_looking_for_garbage(argument: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, argument], capture_output=True, text=True, timeout=60)
    assert done.returncode == code and done.stdout.endswith("AT EXIT False True 0\n"), done.stdout[-200:]


NOTES = '''
from pathlib import Path

from simserve.policies.scheduling.sarathi import Sarathi


class Ring:
    """Refers to itself: it is given up when garbage is looked for."""

    def __init__(self):
        self.ring = self

    def __del__(self):
        Path("notes.txt").write_text("done")


class Noting(Sarathi):
    """Sarathi-Serve's plan, with something that it drops."""

    def plan(self, view):
        if not hasattr(self, "dropped"):
            Ring()
            self.dropped = True
        return super().plan(view)
'''

EXPERIMENT = """\
model: llama-2-7b
hardware: a100-sxm-80gb
cluster: {instances: [{scheduler: {policy: noting}}]}
workload:
  arrivals: {kind: constant, rate_per_s: 10}
  lengths: {prompt: {kind: fixed, tokens: 16}, output: {kind: fixed, tokens: 2}}
  count: 3
"""


def test_what_a_package_has_dropped_is_given_up_when_python_ends(tmp_path: Path) -> None:
    points = '[project.entry-points."simserve.schedulers"]\nnoting = "noting:Noting"\n'
    package = Package(tmp_path, "noting", {"noting.py": NOTES}, points)
    package.run(EXPERIMENT)
    assert (tmp_path / "notes.txt").read_text() == "done"
