"""Predictions of measured runs, kept between calls under a key of everything that a prediction goes through."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from simserve.config import engine_profile
from simserve.errors import SimserveError
from simserve.files import kept
from simserve.model import load_model
from simserve.validation import warm_up
from simserve.validation.case import Case
from simserve.validation.devices import device_profile
from simserve.validation.machine import Overheads

PACKAGE = Path(__file__).resolve().parents[1]

NO_PART = frozenset({"_data", "calibration", "cli", "progress", "report", "study"})
"""What no prediction goes through: it makes profiles, runs experiments or shows results. Profiles count by their content (`key`)."""


def cache_folder() -> Path:
    """`$SIMSERVE_CACHE/serving`, or `$XDG_CACHE_HOME/simserve/serving`, or the same under `~/.cache`. May not exist yet."""
    return kept.cache_folder("serving")


def code_files(package: Path = PACKAGE) -> list[Path]:
    """The source and the model configurations of everything that a prediction may go through, in the package's folder `package`.

    All but `NO_PART`, rather than a list of what is used: a new module must not be forgotten.
    """
    files = (f for f in package.rglob("*") if f.suffix in (".py", ".json"))
    return sorted(f for f in files if f.relative_to(package).parts[0] not in NO_PART)


def code_digest(package: Path = PACKAGE) -> str:
    """SHA-256 of these files: a changed simulator does not answer from an old cache."""
    digest = hashlib.sha256()
    for file in code_files(package):
        digest.update(f"{file.relative_to(package).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class PredictionCache:
    """Predictions on disk, one small JSON file each, named by what determines them. None as folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._code = "" if folder is None else code_digest()
        self._files: dict[Path, str] = {}
        self._models: dict[tuple[str, str | None], str] = {}

    def get(self, case: Case, overheads: Overheads | None = None) -> dict[str, Any] | None:
        """`predicted` and `skip` of this very case (with these overheads in place of the profile's); None when it is not known."""
        if self._folder is None:
            return None
        try:
            found: dict[str, Any] = json.loads((self._folder / f"{self.key(case, overheads)}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def put(self, case: Case, predicted: dict[str, float], skip: str, overheads: Overheads | None = None) -> None:
        """Keeps a prediction. A cache that cannot be written keeps nothing from then on."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self.key(case, overheads)}.json"
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps({"predicted": predicted, "skip": skip}), encoding="utf-8")
            part.replace(path)
        except OSError:
            self._folder = None

    def key(self, case: Case, overheads: Overheads | None = None) -> str:
        """What determines the prediction: the program, the case, its overheads where they are not the profile's, and the content of its
        engine profile, hardware profile and model.

        Raises ConfigError or ProfileError for a profile that does not exist.
        """
        hardware = device_profile(case.gpu).path  # it holds the sha256 of every coefficient file
        profiles = [self._content(path) for path in (engine_profile.find(case.profile), hardware)]
        told = [self._code, case.description(), profiles, self._model(case.model, case.quantisation)]
        told.append(repr(overheads) if overheads else repr(warm_up.first_request_s(case.profile)))
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    def _content(self, path: Path) -> str:
        if path not in self._files:
            self._files[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._files[path]

    def _model(self, name: str, quantisation: str | None) -> str:
        """All that is known of a model, which may be a file of the user's; '' when it is no model, which the prediction will say."""
        asked = (name, quantisation)
        if asked not in self._models:
            try:
                self._models[asked] = repr(load_model(name, quantisation=quantisation))
            except SimserveError:
                self._models[asked] = ""
        return self._models[asked]
