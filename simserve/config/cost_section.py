"""The `cost` section of an experiment."""

from __future__ import annotations

from pydantic import Field, model_validator

from simserve.config.section import OpenSection


class CostSection(OpenSection):
    """Where the seconds of a step come from. Without this section: from the kernel models of the hardware profile. Further keys are
    parameters of `model`."""

    polynomial: str | None = Field(
        default=None,
        description="Published coefficients instead of kernel models: the name of a bundled file, or a path to a JSON file of the same form"
        " (docs/cost-models.md). The engine profile's host overheads are then not added.",
    )
    model: str | None = Field(
        default=None,
        description="A cost model of an installed package (`simserve plugins`), which changes what kernel models or coefficients give.",
    )

    @model_validator(mode="after")
    def _some_source(self) -> CostSection:
        if self.polynomial is None and self.model is None:
            raise ValueError("state where step times come from: polynomial or model")
        return self
