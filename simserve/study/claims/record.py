"""What the bundled experiments gave when their claims were last checked: `experiments/claims.json`, so that listing them runs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve import resources
from simserve.config import engine_profile
from simserve.config.claims import ChosenNumber, PaperSection
from simserve.config.experiment import Experiment, load
from simserve.errors import ConfigError, OutputError, SimserveError, nearest
from simserve.files import yaml_text
from simserve.report.files import write_whole
from simserve.study.claims.check import Outcome, check_claims
from simserve.study.claims.move import Multiplied
from simserve.version import __version__

if TYPE_CHECKING:
    from simserve.report.result import Result

RECORD = "claims.json"
SCHEMA_VERSION = 2
_DIGITS = 6
"""Significant digits that are kept: more than a reader needs, fewer than a last bit could change."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The figures and verdicts of the claims, by claim, with a chosen number at another value than the experiment's.

    key     the number's key; `value` what it was instead, or `factor` what it was multiplied by in each variant that has it
    chosen  how the number was chosen
    """

    key: str
    value: float | None
    factor: float | None
    ours: dict[str, float | None]
    reproduced: dict[str, bool]
    chosen: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One experiment's outcomes, and what they were made with: simserve's version and the digest of each file that counts."""

    paper: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    sensitivity: tuple[Sensitivity, ...]
    simserve_version: str
    files: dict[str, str]


def record_path() -> Path:
    """The record that ships: beside the bundled experiments."""
    return resources.find("experiments", "quickstart").parent / RECORD


def checkout() -> Path | None:
    """The folder of the project's source, where the record and the documentation may be rewritten; None for an installed copy."""
    root = record_path().parent.parent
    return root if (root / "pyproject.toml").is_file() else None


def claimed() -> dict[str, dict[str, Any]]:
    """The bundled experiments that make claims: name -> the YAML's content."""
    found = {}
    for name in resources.available("experiments"):
        data = yaml_text.read(resources.find("experiments", name)).data
        if data.get("claims"):
            found[name] = data
    return found


def priority(data: Mapping[str, Any]) -> str:
    """A, B or C of an experiment's content, as PaperSection says."""
    paper = data.get("paper")
    return str(paper.get("priority", "A")) if isinstance(paper, Mapping) else "A"


def chosen(names: Iterable[str], *, priorities: str = "", everything: bool = False) -> list[str]:
    """The experiments of these names, and those of these priorities. Raises ConfigError for one that does not exist or claims nothing."""
    known = claimed()
    for name in names:
        if name not in known:
            raise ConfigError(f"no bundled experiment '{name}' makes claims{nearest(name, known)}")
    wanted = set(names) | {name for name, data in known.items() if everything or priority(data) in priorities}
    return sorted(wanted)


def measure(name: str, run: Callable[[Experiment], Result] | None = None) -> Recorded:
    """Runs a bundled experiment and judges its claims. Raises SimserveError as `check_claims` does."""
    report = check_claims(name, run=run)
    sensitivity = moved_numbers(name, load(name).spec.paper, run)
    paper = {key: report.paper[key] for key in ("title", "reference", "priority", "setting", "misses") if report.paper.get(key)}
    outcomes = tuple(Outcome(**_rounded(asdict(outcome))) for outcome in report.outcomes)
    return Recorded(paper, outcomes, tuple(sensitivity), __version__, _digests(_inputs(name)))


def moved_numbers(name: str, paper: PaperSection | None, run: Callable[[Experiment], Result] | None = None) -> list[Sensitivity]:
    """The claims again for each neighbour of each number that was chosen. Raises ConfigError for a key that no variant has."""
    found = []
    for key, neighbours in ({} if paper is None else paper.sensitivity).items():
        if isinstance(neighbours, ChosenNumber):
            for factor in neighbours.factors:
                move = Multiplied((key, *neighbours.together_with), factor)
                outcomes = check_claims(name, run=run, moved=move).outcomes
                move.check_used(name)
                found.append(_sensitivity(key, outcomes, factor=factor, chosen=neighbours.why))
        else:
            found += [_sensitivity(key, check_claims(name, [f"{key}={value}"], run=run).outcomes, value=value) for value in neighbours]
    return found


def _sensitivity(
    key: str, outcomes: Iterable[Outcome], *, value: float | None = None, factor: float | None = None, chosen: str = ""
) -> Sensitivity:
    ours, verdicts = {}, {}
    for outcome in outcomes:
        ours[outcome.claim], verdicts[outcome.claim] = _rounded(outcome.ours), outcome.reproduced
    return Sensitivity(key, value, factor, ours, verdicts, chosen)


def read(path: Path | None = None) -> dict[str, Recorded]:
    """The record: experiment -> outcomes. Empty when there is none. Raises ConfigError for a file that is not a record."""
    path = path or record_path()
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(f"{path}: schema_version {content['schema_version']}; this simserve reads version {SCHEMA_VERSION}")
        return {name: _recorded(entry) for name, entry in content["experiments"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a record of claims ({error}); `simserve experiments run --all --record FILE` makes one") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def check(path: Path) -> None:
    """Raises ConfigError for a file that is not a record, OutputError for a place where none can be written."""
    read(path)
    if not path.resolve().parent.is_dir():
        raise OutputError(f"{path}: the folder does not exist")


def write(records: Mapping[str, Recorded], path: Path | None = None) -> Path:
    """Writes the record, whole or not at all. Raises OutputError."""
    path = path or record_path()
    content = {"schema_version": SCHEMA_VERSION, "experiments": {name: asdict(records[name]) for name in sorted(records)}}
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"  # keys as they come: figures that rise stay in their order
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def older_than(recorded: Recorded) -> list[str]:
    """Files, or simserve itself, that have changed since the outcomes were recorded."""
    changed = [] if recorded.simserve_version == __version__ else [f"simserve {__version__}"]
    for file, digest in recorded.files.items():
        try:
            now = _digest(_located(file))
        except (SimserveError, OSError):
            now = ""
        if now != digest:
            changed.append(file)
    return changed


def _recorded(entry: Mapping[str, Any]) -> Recorded:
    outcomes = tuple(Outcome(**outcome) for outcome in entry["outcomes"])
    sensitivity = tuple(Sensitivity(**row) for row in entry["sensitivity"])
    return Recorded(dict(entry["paper"]), outcomes, sensitivity, entry["simserve_version"], dict(entry["files"]))


def _inputs(name: str) -> list[str]:
    """The files an experiment and its variants are made of, as `kind/name`."""
    base = load(name)
    found = {f"experiments/{name}"}
    for change in base.spec.variants.values():
        resolved = load(name, change).resolved()
        found.add(f"engines/{resolved['engine']['name']}")
        found |= {f"hardware_profiles/{group['hardware']}" for group in resolved["cluster"]["instances"]}
    return sorted(found)


def _located(file: str) -> Path:
    kind, name = file.split("/", 1)
    if kind == "engines":
        return engine_profile.find(name)
    return resources.find("hardware_profiles" if kind == "hardware_profiles" else "experiments", name)


def _digests(files: Iterable[str]) -> dict[str, str]:
    return {file: _digest(_located(file)) for file in files}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return value
