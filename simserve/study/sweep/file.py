"""A sweep written down: the YAML file that `simserve sweep` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from simserve.config.paths import find_experiment
from simserve.config.section import Section
from simserve.errors import ConfigError
from simserve.files import messages, yaml_text
from simserve.files.yaml_text import Document
from simserve.study.base import Base, base


class SweepFile(Section):
    """Which experiments to run: a base, what changes, how the points are chosen."""

    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", description="Names the output directory. Default: the file's name."
    )
    description: str = Field(default="", description="What the sweep asks, for people.")
    experiment: str | dict[str, Any] = Field(description="The base: a YAML file, a bundled experiment, or the experiment itself.")
    set: dict[str, Any] = Field(default_factory=dict, description="Changes that hold at every point, by dotted key.")
    over: dict[str, Any] = Field(
        default_factory=dict, description="Keys that change: values, values by name, or {low, high, steps, scale: linear | log, whole}."
    )
    points: list[dict[str, Any]] | dict[str, dict[str, Any]] | None = Field(
        default=None, description="Instead of `over`: a list of points, each a mapping of keys; or such mappings by name."
    )
    method: Literal["grid", "random", "latin-hypercube"] = Field(default="grid", description="All combinations, or a sample of the space.")
    sample: int | None = Field(default=None, ge=1, description="Points of a sample.")
    sample_seed: int = Field(default=0, ge=0, description="Seed of the sample.")
    seeds: list[int] | None = Field(default=None, description="Seeds: every point is run with each.")
    replicates: int | None = Field(default=None, ge=1, description="Instead of `seeds`: so many from the experiment's seed on.")
    limit: int | None = Field(default=None, ge=1, description="Refuse more runs than this.")


def document_of(source: Any) -> Document | None:
    """The document in a source if that is a sweep file: a YAML file with the key `experiment`. None for an experiment."""
    if not isinstance(source, str | Path):
        return None
    path = find_experiment(source)
    document = yaml_text.read(path)
    return document if "experiment" in document.data else None


def read(document: Document) -> tuple[SweepFile, Base, str]:
    """The sweep in a document, its base experiment, its name. Raises ConfigError listing every mistake."""
    section, mistakes = messages.check(SweepFile, document.data, document)
    messages.fail(document.source, mistakes)
    assert isinstance(section, SweepFile)
    path = Path(document.source)
    return section, base_of(section.experiment, section.set, path.resolve().parent, document), section.name or path.name.split(".")[0]


def base_of(experiment: str | dict[str, Any], changes: dict[str, Any], folder: Path, document: Document) -> Base:
    """The base that a study file names: a path relative to the file's folder or to the current one, a bundled name, or a mapping."""
    if not isinstance(experiment, str):
        return base(experiment, changes, folder)
    if (folder / experiment).is_file():
        return base(folder / experiment, changes)
    try:
        path = find_experiment(experiment)
    except ConfigError as error:
        raise ConfigError(str(messages.at(document, ("experiment",), str(error)))) from None
    return base(path, changes)
