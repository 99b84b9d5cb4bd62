"""Notebooks run from top to bottom, are committed without outputs, and draw what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_some():
    assert {"quickstart", "compare_schedulers"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_committed(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path):
    """Cell by cell in one process, as a kernel would; the last figure is kept in `tmp_path` for whoever wants to look."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join(
        [
            "import matplotlib, warnings",
            "matplotlib.use('agg')",
            "warnings.simplefilter('error', FutureWarning)",
            *(f"exec(compile({cell!r}, 'cell {i}', 'exec'), globals())" for i, cell in enumerate(cells)),
            "import matplotlib.pyplot as plt",
            f"[plt.figure(n).savefig({str(tmp_path)!r} + f'/{{n}}.png') for n in plt.get_fignums()]",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
