"""What every section of a YAML file of ours is: checked, and unchanged after loading."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Unknown keys are errors; a section does not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenSection(BaseModel):
    """A section whose further keys belong to the thing it names (a policy's parameters, an engine's flags) and are checked against it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def parameters(self) -> dict[str, Any]:
        """The further keys, as written."""
        return dict(self.model_extra or {})
