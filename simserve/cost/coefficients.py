"""Files of step-time coefficients: what others fitted on their machine, a few numbers for each model and tensor-parallel degree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simserve.errors import ConfigError, ModelError, nearest
from simserve.files import messages
from simserve.files.json_text import read_json

FOLDER = Path(__file__).parent / "published"

_Term = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_Fixed = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayoutCoefficients(_Part):
    """Milliseconds of the steps of one model on `tp` devices, as polynomials.

    prefill_ms       a, b, c of a + b sum(n) + c sum(n^2), the sums over prompts of n tokens
    decode_ms        a, b, c of a + b (tokens attended by all) + c (requests)
    large_decode_ms  the same for batches of `large_from_requests` requests and more; None = one regime
    """

    model: str
    tp: int = Field(ge=1)
    prefill_ms: tuple[_Fixed, _Term, _Term]
    decode_ms: tuple[_Fixed, _Term, _Term]
    large_decode_ms: tuple[_Fixed, _Term, _Term] | None = None
    large_from_requests: int = Field(default=1, ge=1)


class Coefficients(_Part):
    """A file of coefficients.

    source    where they come from, with the publication
    hardware  the hardware profile of the devices they were measured on
    step_ms, token_ms  what the engine adds to a step, and to it for each token prefilled or attended by a decode
    """

    source: str = Field(min_length=1)
    hardware: str
    step_ms: _Term = 0.0
    token_ms: _Term = 0.0
    layouts: tuple[LayoutCoefficients, ...] = Field(min_length=1)

    def layout(self, model: str, tp: int) -> LayoutCoefficients:
        """The coefficients of a model on `tp` devices. Raises ModelError naming what there is."""
        models = {entry.model for entry in self.layouts}
        if model not in models:
            raise ModelError(f"the coefficients know nothing of the model '{model}'{nearest(model, models)}")
        for entry in self.layouts:
            if (entry.model, entry.tp) == (model, tp):
                return entry
        known = ", ".join(str(entry.tp) for entry in self.layouts if entry.model == model)
        raise ModelError(f"the coefficients of {model} are for tp {known}; found tp {tp}")


def names() -> list[str]:
    """The bundled files, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(path: Path) -> Coefficients:
    """The coefficients in a JSON file. Raises ConfigError naming the file and the first thing that is wrong."""
    data = read_json(path, ConfigError, what="a JSON file of coefficients")
    return messages.checked(Coefficients, data, str(path))
