"""Sections of an experiment that checks a paper: variants of the run, and what was published about them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChosenNumber(_Section):
    """A number that the paper leaves open and that was chosen here: the factors by which it is moved, to see what hangs on it.

    In each variant that has the key, its value there is multiplied (whole numbers are rounded); of a section such as engine.host, every
    number in it.
    """

    factors: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1, description="What the number is multiplied by.")
    together_with: tuple[str, ...] = Field(default=(), description="Further keys that are multiplied with it.")
    why: str = Field(default="", description="How the number was chosen.")


class PaperSection(_Section):
    """Where the figures were published."""

    title: str = Field(description="The paper's title, or the system's name.")
    reference: str = Field(description="arXiv number or venue, and the table or figure.")
    priority: Literal["A", "B", "C"] = Field(
        default="A", description="A: cheap, runs in CI. B: a nightly study. C: needs measured tables first."
    )
    setting: str = Field(default="", description="What the paper leaves open and how it was chosen here.")
    misses: str = Field(default="", description="What was found about the figures outside their bands.")
    sensitivity: dict[str, tuple[float, ...] | ChosenNumber] = Field(
        default_factory=dict,
        description="Numbers that were chosen, by key: values around it, or factors. The figures are recorded for each of them too.",
    )


class ClaimSection(_Section):
    """One published figure, or an order, and the band in which ours counts as a reproduction.

    `of` names variants: one for a figure by itself, two for their ratio (first / second), and with `order` two or more whose figures
    must rise. A name that ends in * stands for the highest figure of all variants that begin like it.
    """

    figure: str = Field(
        description="A figure of a run as in capacity predicates (ttft.p50, goodput, throughput.output_tokens ...), or probes.NAME."
    )
    of: tuple[str, ...] = Field(
        min_length=1,
        description="Variants: one = its figure, two = the ratio of the first to the second, order = all."
        " NAME* = the highest figure of those that begin so.",
    )
    published: float | None = Field(default=None, description="The published value, in the figure's unit (seconds, 1/s), or a ratio.")
    within: float | None = Field(default=None, gt=0, description="Band: relative distance from the published value (0.25 = 25 %).")
    of_gain: bool = Field(default=False, description="The band counts from the ratio minus one: 1.9 within 0.2 is 1.72 to 2.08.")
    at_most: float | None = Field(default=None, description="Band: our value may not exceed this.")
    at_least: float | None = Field(default=None, description="Band: our value may not be below this.")
    order: bool = Field(default=False, description="Only the order is claimed: the figures of the variants in `of` rise.")
    note: str = Field(default="", description="What to know about this figure.")
    basis: Literal["independent", "fitted", "back-solved", "identity"] = Field(
        default="independent",
        description="What of ours was taken from the published figures. fitted: a parameter or the load, by several of them. back-solved:"
        " an input, computed from this figure. identity: all of it; ours follows from the inputs by arithmetic and shows only that.",
    )
    because: str = Field(default="", description="Which input that is; needed unless basis is independent.")
    bounds: str = Field(default="", description="Why the sides of the band lie where they do, where they are stated one by one.")

    @model_validator(mode="after")
    def _a_claim(self) -> ClaimSection:
        bounds = (self.within, self.at_most, self.at_least)
        if self.order:
            if len(self.of) < 2 or any(b is not None for b in (*bounds, self.published)):
                raise ValueError("order compares two or more variants and takes no other bound")
        elif len(self.of) > 2:
            raise ValueError("of names one variant (a figure) or two (a ratio); more only with order: true")
        elif all(b is None for b in bounds):
            raise ValueError("a claim needs a band: within (with published), at_most, at_least, or order: true")
        if self.within is not None and self.published is None:
            raise ValueError("within needs the published value")
        if self.of_gain and (len(self.of) != 2 or self.within is None):
            raise ValueError("of_gain is for ratios with within")
        if (self.basis == "independent") != (not self.because):
            raise ValueError("basis: fitted, back-solved or identity, and because: which input was taken from the published figures")
        return self


def band(claim: ClaimSection) -> tuple[float, float]:
    """Lowest and highest value that reproduce the claim (infinities where a side is open). Not for `order` claims."""
    low, high = float("-inf"), float("inf")
    if claim.within is not None and claim.published is not None:
        reach = claim.within * (abs(claim.published - 1) if claim.of_gain else abs(claim.published))
        low, high = claim.published - reach, claim.published + reach
    if claim.at_least is not None:
        low = max(low, claim.at_least)
    if claim.at_most is not None:
        high = min(high, claim.at_most)
    return low, high


Variants = dict[str, dict[str, Any]]
"""Name -> changes, dotted key to value."""
