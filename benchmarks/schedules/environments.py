"""Scratch environments in which an engine's scheduler imports, on a CPU and without the engine's dependencies.

    scratch/base            a virtual environment: torch for CPUs and the packages that all engines' schedulers import
    scratch/<generation>    packages that versions need in different generations (transformers), beside it
    scratch/<engine>-<version>   the Python files of the engine's wheel, and nothing else of it

An environment is the interpreter of the base with the other two on its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from simserve.errors import SimserveError

TORCH = os.environ.get("TORCH", "torch==2.13.0")

BASE = (
    "numpy",
    "pydantic",
    "packaging",
    "pyyaml",
    "typing_extensions",
    "regex",
    "cachetools",
    "psutil",
    "cloudpickle",
    "msgspec",
    "pyzmq",
    "requests",
    "tqdm",
    "blake3",
    "py-cpuinfo",
    "prometheus_client",
    "pillow",
    "cbor2",
    "einops",
    "sentencepiece",
    "setproctitle",
    "gguf",
    "fastapi",
    "scipy",
    "pybase64",
    "diskcache",
    "lark",
    "openai",
    "aiohttp",
    "partial-json-parser",
    "mcp",
    "openai-harmony",
    "uvloop",
    "llguidance",
    "tiktoken",
    "httpx",
    "typer",
)
"""What is imported on the way to a scheduler, most of it by modules that have nothing to do with scheduling."""

BASE_ALONE = ("xgrammar", "apache-tvm-ffi")
"""Installed without what they depend on themselves: kernels for GPUs."""

GENERATIONS = {
    "transformers-4": ("transformers==4.57.*", "tokenizers>=0.22,<0.23", "huggingface_hub<1", "safetensors", "hf-xet"),
    "transformers-5": ("transformers>=5.16.1,<5.21", "tokenizers>=0.23.2", "huggingface_hub>=1", "safetensors", "hf-xet", "shellingham"),
}

VERSIONS = {
    "vllm": {
        "0.8.5": "transformers-4",
        "0.11.0": "transformers-4",
        "0.19.1": "transformers-5",
        "0.24.0": "transformers-5",
        "0.33.0": "transformers-5",
    },
    "vllm-ascend": {"0.11.0": "transformers-4"},
}
"""Engine -> version -> generation of packages. Another version may be asked for: it gets the newest generation."""

BENEATH = {"vllm-ascend": "vllm"}
"""Engines that extend another, of the same version."""

KEPT = (".py", ".pyi", ".json", ".jinja", "METADATA", "entry_points.txt", "top_level.txt")
"""What is taken out of a wheel: no kernels."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a version's scheduler imports: the interpreter, and the folders to put on its path."""

    python: Path
    path: tuple[Path, ...]

    def run(self, *words: str, more: tuple[Path, ...] = ()) -> None:
        """Python with these arguments. Raises SimserveError where it ends with an error: what it said is on stderr."""
        path = os.pathsep.join(str(one) for one in (*more, *self.path))
        variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        ended = subprocess.run([str(self.python), *words], env=variables, check=False)
        if ended.returncode:
            raise SimserveError(f"{' '.join(words[:6])} ended with exit code {ended.returncode}")


def environment(engine: str, version: str, scratch: Path, wheels: Path | None = None) -> Environment:
    """Builds what is not there yet. Raises SimserveError where pip cannot get something, naming it."""
    scratch.mkdir(parents=True, exist_ok=True)
    scratch = scratch.resolve()
    known = VERSIONS[engine]
    generation = known.get(version) or list(known.values())[-1]
    python = _base(scratch / "base")
    packages = scratch / generation
    if not _done(packages):
        _pip(python, "install", "--no-deps", "--target", str(packages), *GENERATIONS[generation])
        _finish(packages)
    engines = [engine, *([BENEATH[engine]] if engine in BENEATH else [])]
    return Environment(python, (*(_files(python, one, version, scratch, wheels) for one in engines), packages))


def _base(folder: Path) -> Path:
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not _done(folder):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        _pip(python, "install", TORCH)
        _pip(python, "install", *BASE)
        _pip(python, "install", "--no-deps", *BASE_ALONE)
        _finish(folder)
    return python


def _files(python: Path, engine: str, version: str, scratch: Path, wheels: Path | None) -> Path:
    """The Python files of an engine's wheel, which is fetched if none is at hand, and is not kept."""
    folder = scratch / f"{engine}-{version}"
    if _done(folder):
        return folder
    wheel = _wheel(engine, version, wheels) if wheels is not None else None
    fetched = scratch / "wheels"
    if wheel is None:
        _pip(python, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(fetched), f"{engine}=={version}")
        wheel = _wheel(engine, version, fetched)
    if wheel is None:
        raise SimserveError(f"{engine} {version}: no wheel of it was found")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(KEPT)])
    if wheel.parent == fetched:
        wheel.unlink()
    _finish(folder)
    return folder


def _wheel(engine: str, version: str, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{engine.replace('-', '_')}-{version}-*.whl"))), None)


def _pip(python: Path, *words: str) -> None:
    print("pip " + " ".join(words), file=sys.stderr, flush=True)
    ended = subprocess.run([str(python), "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:]], check=False)
    if ended.returncode:
        raise SimserveError(f"pip {' '.join(words)}: exit code {ended.returncode}")


def _done(folder: Path) -> bool:
    """Whether a folder was built to the end, by the same recipe."""
    mark = folder / ".built"
    return mark.is_file() and mark.read_text() == _recipe(folder.name)


def _finish(folder: Path) -> None:
    (folder / ".built").write_text(_recipe(folder.name))


def _recipe(name: str) -> str:
    return " ".join([TORCH, *BASE, *BASE_ALONE] if name == "base" else GENERATIONS.get(name, (name,)))
