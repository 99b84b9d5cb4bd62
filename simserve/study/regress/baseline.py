"""Recorded figures of a suite, and what they were recorded with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve import resources
from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.report.files import write_json
from simserve.version import __version__

SCHEMA_VERSION = 1

Figures = dict[str, list[float | None]]
"""Values by figure (as in a predicate), one for each seed."""

_WHAT = {
    "model": "another model",
    "hardware": "other hardware",
    "profile_sha256": "another calibration of the hardware profile",
    "engine": "another engine profile",
    "workload": "another workload, SLO or measured window",
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """`stacks` and `figures` by case."""

    version: str
    seeds: tuple[int, ...]
    stacks: dict[str, dict[str, str]]
    figures: dict[str, Figures]

    def write(self, path: Path, suite: str) -> None:
        """Writes the file, whole or not at all. Raises OutputError."""
        cases = {name: {"stack": self.stacks[name], "figures": self.figures[name]} for name in self.figures}
        content = {"schema_version": SCHEMA_VERSION, "suite": suite, "simserve_version": self.version, "seeds": list(self.seeds)}
        write_json(path, {**content, "cases": cases})

    @staticmethod
    def read(path: Path) -> Baseline | None:
        """The baselines in a file; None when there is no file. Raises ConfigError for one that is not ours or of another schema."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read as a baseline: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("cases"), dict):
            raise ConfigError(f"{path}: is not a baseline file of simserve")
        if content.get("schema_version") != SCHEMA_VERSION:
            found = content.get("schema_version")
            raise ConfigError(f"{path}: has schema version {found!r}, this simserve reads {SCHEMA_VERSION}; record it again with --update")
        cases = content["cases"]
        try:
            return Baseline(
                str(content["simserve_version"]),
                tuple(content["seeds"]),
                {name: dict(case["stack"]) for name, case in cases.items()},
                {name: dict(case["figures"]) for name, case in cases.items()},
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{path}: a damaged baseline file ({error!r} is missing or wrong); record it again with --update") from None


def stack_of(experiment: Experiment) -> dict[str, str]:
    """What figures of an experiment rest on besides the policy, which is what a suite judges: figures of two stacks do not compare."""
    resolved = experiment.resolved()
    names = sorted({resolved["hardware"], *(group["hardware"] for group in resolved["cluster"]["instances"])})
    profiles = hashlib.sha256()
    for name in names:
        profiles.update((Path(name) if Path(name).is_absolute() else resources.find("hardware_profiles", name)).read_bytes())
    kept = {key: resolved.get(key) for key in ("workload", "slo", "metrics", "until_s")}
    return {
        "model": " ".join(str(value) for value in (Path(resolved["model"]["name"]).name, resolved["model"].get("quantisation")) if value),
        "hardware": ", ".join(Path(name).name for name in names),
        "profile_sha256": profiles.hexdigest(),
        "engine": f"{Path(resolved['engine']['name']).stem} {_digest(resolved['engine'])[:12]}",
        "workload": _digest(_portable(kept)),
    }


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two stacks, in words."""
    out = []
    for key, what in _WHAT.items():
        if old.get(key) != new.get(key):
            readable = key in ("model", "hardware")
            out.append(f"{what} ({old.get(key)}; now {new.get(key)})" if readable else what)
    return out


def refuse_other_stacks(baseline: Baseline, path: Path, stacks: Mapping[str, Mapping[str, str]], seeds: tuple[int, ...]) -> None:
    """Raises ConfigError when the baselines do not compare with runs of these stacks and seeds by this version."""
    again = "look at the differences and record again with --update"
    if baseline.version != __version__:
        raise ConfigError(f"{path}: recorded with simserve {baseline.version}, this is {__version__}; {again}")
    if set(seeds) - set(baseline.seeds):
        have, want = (", ".join(str(seed) for seed in numbers) for numbers in (baseline.seeds, seeds))
        raise ConfigError(f"{path}: recorded with the seeds {have}, the suite asks for {want}; {again}")
    cases_with: dict[str, list[str]] = {}
    for case, stack in stacks.items():
        known = baseline.stacks.get(case)
        texts = ["there is no baseline"] if known is None else [f"recorded with {text}" for text in differences(known, stack)]
        for text in texts:
            cases_with.setdefault(text, []).append(case)
    problems = [f"{_listed(cases)}: {text}" for text, cases in cases_with.items()]
    if len(problems) == 1:
        raise ConfigError(f"{path}: {problems[0]}; {again}")
    if problems:
        raise ConfigError(f"{path}: the baselines do not compare; {again}\n" + "\n".join(f"  {text}" for text in problems))


def _listed(cases: list[str]) -> str:
    return ", ".join(cases) if len(cases) <= 3 else f"{', '.join(cases[:2])} and {len(cases) - 2} more"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _portable(node: Any) -> Any:
    """Trace files by their content, not by where they lie on this machine."""
    if isinstance(node, Mapping):
        return {key: _file(value) if key == "path" and isinstance(value, str) else _portable(value) for key, value in node.items()}
    return [_portable(item) for item in node] if isinstance(node, list) else node


def _file(path: str) -> str:
    file = Path(path) if Path(path).is_absolute() else resources.find_trace(path)
    return hashlib.sha256(file.read_bytes()).hexdigest()
