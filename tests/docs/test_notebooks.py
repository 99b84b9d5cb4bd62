"""Notebooks run from top to bottom, are committed without outputs, and draw what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# As a kernel does: every cell in one namespace, the value of its last line shown by its rich representation.
KERNEL = """
import ast, json, sys, warnings
import matplotlib
matplotlib.use("agg")
warnings.simplefilter("error", FutureWarning)
names = {}
for number, source in enumerate(json.loads(sys.stdin.read())):
    tree, last = ast.parse(source), None
    if isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        shown = eval(compile(last, f"cell {number}", "eval"), names)
        assert getattr(shown, "_repr_html_", shown.__repr__)()
import matplotlib.pyplot as plt
for number in plt.get_fignums():
    plt.figure(number).savefig(f"{number}.png")
"""


def test_there_are_some():
    expected = {"quickstart", "compare_schedulers", "prefill_decode_disaggregation", "calibrating_a_gpu", "reproducing_a_paper"}
    assert expected <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_committed(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path):
    """Cell by cell in one process; the figures are left in `tmp_path` for whoever wants to look."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", KERNEL], input=json.dumps(cells), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
