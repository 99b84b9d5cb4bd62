"""Builds compiled wheels: with SIMSERVE_COMPILE=1 in the environment, mypyc compiles the modules that pyproject.toml lists.

Without it, and in editable installs, nothing here happens: the wheel is pure Python, needs no compiler and fits every platform. A compiled
wheel has the same source beside the extensions, and gives the same records. What the compiler says when it fails ends the build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by the interpreter of the build, below
    BuildHookInterface = object  # type: ignore[assignment, misc]

SWITCH = "SIMSERVE_COMPILE"
GROUP = "simserve_engine"
"""Of its name is the one library that holds the code of all modules; an extension of a module points into it."""


class CompiledWheel(BuildHookInterface):  # type: ignore[type-arg, misc]
    """Adds extensions to a wheel, and its tag is then that of the platform."""

    def dependencies(self) -> list[str]:
        """What compiling needs beside a C compiler. The libraries are there for their types."""
        return [*self.config["requires"], *self._libraries()] if self._asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles before the wheel is put together."""
        if version == "editable" or not self._asked():
            return
        self._work = tempfile.TemporaryDirectory(prefix="simserve-compile-")
        work = Path(self._work.name)
        shutil.copytree(Path(self.root, "simserve"), work / "simserve", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
        command = [sys.executable, str(Path(__file__).resolve()), *self.config["modules"]]
        done = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            self._work.cleanup()
            self.app.abort(f"{SWITCH} is set and the engine cannot be compiled:\n{done.stdout}\nWithout {SWITCH} the build is pure Python.")
        made = work / "simserve" / "_compiled.py"
        made.write_text(f'"""Of a compiled build: what compiled it."""\n\nCOMPILER = "mypyc {version_of("mypy")}"\n')
        found = [*work.joinpath("built").rglob("*.so"), *work.joinpath("built").rglob("*.pyd")]
        build_data["force_include"].update({str(path): str(path.relative_to(work / "built")) for path in found})
        build_data["force_include"][str(made)] = "simserve/_compiled.py"
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if hasattr(self, "_work"):
            self._work.cleanup()

    def _asked(self) -> bool:
        said = os.environ.get(SWITCH, "")
        if said not in ("", "0", "1"):
            raise ValueError(f"{SWITCH} must be 1 (compile) or 0 (pure Python); found '{said}'")
        return said == "1" and self.target_name == "wheel"

    def _libraries(self) -> list[str]:
        typed = ("numpy", "simpy", "pydantic")
        return [one for one in self.metadata.core.dependencies if one.startswith(typed)]


def compile_here(modules: list[str]) -> None:
    """Compiles modules of the package in the working directory into the folder `built`."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--config-file=", f"--python-version={python}", "--ignore-missing-imports", "--follow-imports=silent"]
    extensions = mypycify([*options, *modules], opt_level="3", debug_level="0", target_dir="generated", group_name=GROUP)
    command = Distribution({"name": "simserve", "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = "built", "objects"
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    compile_here(sys.argv[1:])
