"""Files that ship with simserve: hardware profiles, experiments and traces, from a checkout or from an installed wheel."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from simserve import hints
from simserve.errors import ConfigError, ProfileError, SimserveError, TraceError, nearest
from simserve.files.words import clipped

Kind = Literal["hardware_profiles", "experiments", "traces"]

_SUFFIXES: dict[str, tuple[str, ...]] = {
    "hardware_profiles": (".yaml", ".yml"),
    "experiments": (".yaml", ".yml"),
    "traces": (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"),
}
_ERRORS: dict[str, type[SimserveError]] = {"hardware_profiles": ProfileError, "experiments": ConfigError, "traces": TraceError}
_WHAT = {"hardware_profiles": "hardware profile", "experiments": "experiment", "traces": "trace"}

_PACKAGE = Path(__file__).resolve().parent


_OTHER_NAMES = {
    "b200": "b200-sxm",
    "hgx-b200": "b200-sxm",
    "dgx-b200": "b200-sxm",
    "b300": "b300-sxm",
    "hgx-b300": "b300-sxm",
    "dgx-b300": "b300-sxm",
    "gb200-nvl72": "gb200",
    "gb300-nvl72": "gb300",
    "rtx-pro-6000-blackwell-server-edition": "rtx-pro-6000-server",
}
"""Names under which a device is sold, where they mean one profile."""


def find(kind: Kind, name: str) -> Path:
    """The shipped file of that name: with or without its suffix, with or without the folder (`traces/x.csv`, `x.csv`, `x`).

    Case does not matter. Raises ProfileError, ConfigError or TraceError (by kind) with the nearest right name.
    """
    wanted = name.removeprefix(f"{kind}/").lower()
    wanted = _OTHER_NAMES.get(wanted, wanted) if kind == "hardware_profiles" else wanted
    by_name, by_stem = _by_name(kind, _files(kind))
    found = by_name.get(wanted) or by_stem.get(wanted)
    if found is None:
        hint = (hints.hardware if kind == "hardware_profiles" else nearest)(wanted, sorted(by_stem))
        raise _ERRORS[kind](f"unknown {_WHAT[kind]} '{clipped(name)}'{hint if by_stem else f'; none is installed in {_folder(kind)}'}")
    return found


def find_trace(name: str) -> Path:
    """The shipped trace of that name. Raises TraceError with the nearest right name."""
    return find("traces", name)


def available(kind: Kind) -> list[str]:
    """Names of the shipped files of a kind, without suffix, sorted."""
    return sorted({_stem(kind, file) for file in _files(kind)})


def _folder(kind: str) -> Path:
    return _folder_beside(_PACKAGE, kind)


@functools.lru_cache(maxsize=len(_SUFFIXES))
def _folder_beside(package: Path, kind: str) -> Path:
    # A folder called `traces` beside an installed package belongs to another package: only a checkout has pyproject.toml there.
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / kind).is_dir():
        return checkout / kind
    return package / "_data" / kind


def _files(kind: str) -> tuple[Path, ...]:
    folder = _folder(kind)
    try:
        return _listed(kind, folder, folder.stat().st_mtime_ns)
    except OSError:
        return ()


@functools.lru_cache(maxsize=len(_SUFFIXES))
def _listed(kind: str, folder: Path, modified_ns: int) -> tuple[Path, ...]:
    """The files of a folder, remembered while none comes or goes: a study of a thousand points asks for each name a thousand times."""
    return tuple(sorted(f for f in folder.iterdir() if f.is_file() and f.name.lower().endswith(_SUFFIXES[kind])))


@functools.lru_cache(maxsize=len(_SUFFIXES))
def _by_name(kind: str, files: tuple[Path, ...]) -> tuple[dict[str, Path], dict[str, Path]]:
    return {file.name.lower(): file for file in files}, {_stem(kind, file).lower(): file for file in reversed(files)}


def _stem(kind: str, file: Path) -> str:
    suffix = max((s for s in _SUFFIXES[kind] if file.name.lower().endswith(s)), key=len)
    return file.name[: -len(suffix)]
