"""Where names and paths in an experiment lead, and how they are written so that they lead there from anywhere.

A path is looked for relative to the experiment's folder, then to the current directory, then among the bundled data.
"""

from __future__ import annotations

from pathlib import Path

from simserve import resources
from simserve.errors import ConfigError, SimserveError, nearest
from simserve.files.words import clipped


def find_experiment(name_or_path: str | Path) -> Path:
    """The YAML file of an experiment: a path, or the name of a bundled one. Raises ConfigError with the nearest bundled name."""
    path = Path(name_or_path)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        if not path.exists() and path.parent == Path("."):
            bundled = resources.available("experiments")
            hint = nearest(path.stem, bundled)
            raise ConfigError(f"{path}: no such file (bundled experiments are named without .yaml{hint})")
        return path  # what is wrong with it (absent, a directory) is said when it is read
    names = resources.available("experiments")
    if str(name_or_path) in names:
        return resources.find("experiments", str(name_or_path))
    raise ConfigError(f"{clipped(str(name_or_path), 200)}: neither a file nor a bundled experiment{nearest(str(name_or_path), names)}")


def existing(path: str, base_dir: Path) -> Path | None:
    """The absolute file of a path relative to the experiment's folder or to the current directory, if there is one."""
    for folder in (base_dir, Path.cwd()):
        if (folder / path).exists():
            return (folder / path).resolve()
    return None


def hardware_reference(name_or_path: str, base_dir: Path) -> str:
    """A bundled profile's name, or the absolute path of the user's own file. Raises ProfileError or ConfigError."""
    if name_or_path.endswith((".yaml", ".yml")):
        found = existing(name_or_path, base_dir)
        if found is None:
            raise ConfigError(f"hardware profile '{name_or_path}': no such file")
        return _bundled("hardware_profiles", found) or str(found)
    resources.find("hardware_profiles", name_or_path)
    return name_or_path


def model_reference(name_or_path: str, base_dir: Path) -> str:
    """A bundled model's name, or the absolute path of the user's own config.json."""
    looks_like_path = name_or_path.endswith(".json") or "/" in name_or_path
    found = existing(name_or_path, base_dir) if looks_like_path else None
    return str(found) if found else name_or_path


def coefficients_reference(name_or_path: str, base_dir: Path) -> str:
    """A bundled file of step-time coefficients by name, or the absolute path of the user's own. Raises ConfigError."""
    from simserve.cost import coefficients

    if name_or_path.endswith(".json"):
        found = existing(name_or_path, base_dir)
        if found is None:
            raise ConfigError(f"coefficients '{name_or_path}': no such file")
        return str(found)
    if name_or_path not in coefficients.names():
        raise ConfigError(f"unknown coefficients '{name_or_path}'{nearest(name_or_path, coefficients.names())} (or a path ending in .json)")
    return name_or_path


def coefficients_file(reference: str) -> Path:
    """The file that a coefficients reference stands for."""
    from simserve.cost import coefficients

    return Path(reference) if Path(reference).is_absolute() else coefficients.FOLDER / f"{reference}.json"


def trace_reference(path: str, base_dir: Path) -> str:
    """`traces/<file>` for a bundled trace, or the absolute path of the user's own file."""
    found = existing(path, base_dir)
    if found is None:
        return path  # a bundled trace by name, or absent: the reader says so
    return _bundled("traces", found) or str(found)


def _bundled(kind: resources.Kind, found: Path) -> str | None:
    """The name of a file if it is one of the bundled data."""
    try:
        same = resources.find(kind, found.name).resolve() == found
    except SimserveError:
        return None
    return (f"traces/{found.name}" if kind == "traces" else found.stem) if same else None
