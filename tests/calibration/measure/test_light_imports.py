"""The harness imports without PyTorch, and says what to install when it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
sys.modules["torch"] = None
import simserve.calibration.measure.command as measure
import simserve.calibration.replay.command as replay
heavy = {"pandas", "scipy", "matplotlib", "pyarrow", "lightgbm", "pydantic", "yaml", "typer"} & set(sys.modules)
assert not heavy, heavy
sys.exit(measure.main(["--device", "cpu", "--out", sys.argv[1]]))
"""


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "o")], capture_output=True, text=True)
    assert answer.returncode == 2, answer.stderr
    assert "PyTorch" in answer.stderr and "install" in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "o").exists()
