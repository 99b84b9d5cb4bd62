"""Notebooks run from top to bottom, are committed without outputs, and show what they draw."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
JUPYTER = all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel"))

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

# What draws, and makes one figure each time: a plot of ours without axes of the reader's, and pyplot's own.
FIGURE = re.compile(r"\.plot\.\w+\((?![^\n]*\bax=)|plt\.(?:subplots|figure)\(")


def cells_of(path) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def images_of(cells: list[str], folder) -> list[int]:
    """Pictures shown below each cell, by a real Jupyter kernel. nbclient raises what a cell raises."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class Kernel(AsyncKernelManager):
        """This interpreter, whether or not a kernel specification is installed for it."""

        @property
        def kernel_spec(self):
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=300, kernel_manager_class=Kernel, resources={"metadata": {"path": str(folder)}})
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # the kernel chooses its own
    client.execute(env={**environment, "PYTHONPATH": str(ROOT)})
    return [sum(kind.startswith("image/") for output in cell.outputs for kind in output.get("data") or {}) for cell in notebook.cells]


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
            assert "".join(cell["source"]).strip(), "an empty cell"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path):
    """In a Jupyter kernel, where there is one (the extra `notebooks`): every cell shows the figures that it draws, and no others. Without
    Jupyter cell by cell in one process, whose figures are left in `tmp_path` to look at."""
    cells = cells_of(path)
    assert any(FIGURE.search(cell) for cell in cells)
    if JUPYTER:
        assert images_of(cells, tmp_path) == [len(FIGURE.findall(cell)) for cell in cells]
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", KERNEL], input=json.dumps(cells), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not JUPYTER, reason="needs a Jupyter kernel (the extra `notebooks`)")
@pytest.mark.parametrize(
    "first", ["pass", "%matplotlib inline", "import matplotlib.pyplot as plt", "import pandas; pandas.Series([1]).plot();"]
)
def test_every_figure_is_shown_whatever_the_session_began_with(first, tmp_path):
    """Ours and the reader's own, in any order; a result that is written shows nothing."""
    run = "import simserve\nresult = simserve.run('quickstart', **{'workload.trace.duration_s': 60})"
    mine = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    two = "result.plot.latency_over_time()\nresult.plot.queue_and_batch();"
    into = "figure, ax = plt.subplots(1, 2)\nresult.plot.kv_usage(ax=ax[0])\nresult.plot.latency_cdf('ttft_s', ax=ax[1]);"
    cells = [
        first,
        run,
        "result.plot.latency_cdf();",
        mine,
        two,
        "result.write('out')",
        into,
        "simserve.compare([result] * 2).plot.goodput();",
    ]
    assert images_of(cells, tmp_path)[1:] == [0, 1, 1, 2, 0, 1, 1]
