"""A package from elsewhere as an installer leaves it: its modules and what its pyproject.toml says, on the path of another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]

QUICK = "output: {plots: false, report: false}\n"


class Package:
    """A folder with modules and their entry points, and `simserve` run in it, which finds them."""

    def __init__(self, folder: Path, name: str, modules: dict[str, str], pyproject: str) -> None:
        """
        modules    file name -> text
        pyproject  what stands in its pyproject.toml under [project.entry-points.*]
        """
        self.folder, self.name = folder, f"{name} 1.0"
        for file, text in modules.items():
            (folder / file).write_text(text)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "1.0"\n{pyproject}')
        points: dict[str, dict[str, str]] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()) for group, entries in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python where the package is installed."""
        environment = {**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", "MPLBACKEND": "agg", "COLUMNS": "200"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)

    def simserve(self, *arguments: str) -> str:
        """What a command prints on stdout. It must succeed."""
        run = self.python("-m", "simserve", *arguments)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def refused(self, *arguments: str) -> str:
        """The one line by which a command refuses."""
        run = self.python("-m", "simserve", *arguments)
        assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
        (line,) = run.stderr.strip().splitlines()
        return line

    def run(self, experiment: str, *arguments: str) -> tuple[dict[str, Any], pd.DataFrame]:
        """summary.json and requests.parquet of an experiment, every invariant checked."""
        (self.folder / "experiment.yaml").write_text(experiment + QUICK)
        self.simserve("run", "experiment.yaml", "--check", "--force", "--out", "out", *arguments)
        out = self.folder / "out"
        return json.loads((out / "summary.json").read_text()), pd.read_parquet(out / "requests.parquet")
