"""What to type for an experiment, as a value: commands, files, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simserve.deploy.command import Command, folded, read_command
from simserve.errors import OutputError

COMMANDS = "commands.sh"
FOLDER = "deploy"
"""In the directory of a plan search."""

FILE_WIDTH = 100


@dataclass(frozen=True)
class Launch:
    """What to type.

    commands   one for each group of instances
    router     the command in front of prefill and decode instances, in groups of words that stay on a line; empty where there is none, or
               it is not the engine's
    manifests  file name -> text: Kubernetes' objects, and what they need besides
    notes      what no flag says, what was assumed, what is needed besides
    """

    name: str
    engine: str
    version: str
    profile: str
    checked: str
    commands: tuple[Command, ...]
    router: tuple[str, ...] = ()
    router_files: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The engine and its version."""
        return f"{self.engine} {self.version}"

    def script(self, width: int = FILE_WIDTH) -> str:
        """All commands with what each starts, for a shell."""
        parts = [f"# {one.title}\n{one.text(width)}\n" for one in self.commands]
        parts += [f"# in front of them\n{folded(self.router, width)}\n"] if self.router else []
        return "\n".join(parts)

    def files(self) -> dict[str, str]:
        """Everything, by file name: the script, files that the commands read, manifests."""
        head = [
            f"# {self.title} for {self.name}. Flags as of {self.checked}. Each command starts one instance and stays.",
            *(f"# ! {note}" for note in self.notes),
        ]
        found = {COMMANDS: "\n".join([*head, "", self.script()])}
        for one in self.commands:
            found |= one.files
        return {**found, **self.router_files, **self.manifests}

    def write(self, directory: Path) -> None:
        """Writes the files. Raises OutputError."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in self.files().items():
                (directory / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{directory}: cannot be written: {error.strerror or error}") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.name,
            "engine": self.engine,
            "version": self.version,
            "profile": self.profile,
            "checked": self.checked,
            "commands": [{**one.as_dict(), "text": one.text()} for one in self.commands],
            "router": list(self.router),
            "router_files": dict(self.router_files),
            "manifests": dict(self.manifests),
            "notes": list(self.notes),
        }


def read_launch(data: Mapping[str, Any]) -> Launch:
    """The inverse of `as_dict`. Raises KeyError and TypeError for something else."""
    commands = tuple(read_command({key: value for key, value in one.items() if key != "text"}) for one in data["commands"])
    return Launch(**{**data, "commands": commands, "router": tuple(data["router"]), "notes": tuple(data["notes"])})
