"""The section `speculation`: who drafts, how many tokens, and how many of them are accepted."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS
from simserve.config.section import Section
from simserve.cost.draft import Method
from simserve.speculation.speculated import MOST_DRAFTED

_FORMS = ("rate", "rates", "length", "lengths")


class RatesSection(Section):
    """How often drafted tokens are accepted. One of its keys."""

    rate: float | None = Field(
        default=None, ge=0, le=1, description="Probability that a drafted token is accepted, those before it being so."
    )
    rates: list[float] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_DRAFTED,
        description="By position in the draft, the fraction of all drafts accepted up to there, as vLLM prints them; never increasing.",
    )
    length: float | None = Field(
        default=None,
        ge=1,
        le=MOST_DRAFTED + 1,
        description="Mean acceptance length: tokens that a step emits, the bonus token included (SGLang's `accept_length`).",
    )
    lengths: dict[int, float] | None = Field(
        default=None, min_length=1, description="How often a step emits so many tokens: length -> weight. Lengths are 1 to tokens + 1."
    )

    @property
    def form(self) -> str:
        """The key that is stated."""
        return next(form for form in _FORMS if getattr(self, form) is not None)

    @model_validator(mode="after")
    def _one_form(self) -> RatesSection:
        stated = [form for form in (*_FORMS, "by", "column") if getattr(self, form, None) is not None]
        if not stated:
            raise ValueError("state one of rate, rates, length and lengths")
        if len(stated) > 1:
            raise ValueError(f"{stated[0]} and {stated[1]} both state the acceptance; give one of them")
        return self


class AcceptanceSection(RatesSection):
    """How often drafted tokens are accepted: the same for every request (rate, rates, length, lengths), by a category of requests (by), or
    as a column of the trace says (column)."""

    by: str | None = Field(default=None, description="A column of names of the requests: `task`, `slo_class`, `adapter`, `label_model` ...")
    of: dict[str, RatesSection] = Field(default_factory=dict, description="With `by`: the acceptance of each name.")
    column: str | None = Field(
        default=None, description="A column of the requests: `acceptance_rate` (as `rate`) or `acceptance_length` (as `length`)."
    )
    otherwise: RatesSection | None = Field(default=None, description="With `by` and `column`: of requests that they say nothing of.")
    hit: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Method `ngram`: probability that a step has a draft, because the last tokens have occurred before. The acceptance is"
        " that of steps with a draft.",
    )

    @model_validator(mode="after")
    def _with_what_it_needs(self) -> AcceptanceSection:
        if self.of and self.by is None:
            raise ValueError("of: is for `by`, which names the column of these categories")
        if self.by is not None and not self.of:
            raise ValueError(f"by: {self.by} needs `of`, the acceptance of each name")
        if self.otherwise is not None and self.by is None and self.column is None:
            raise ValueError(f"otherwise: is for `by` and `column`; {self.form} holds for every request")
        return self


class ByBatchSection(Section):
    """Another number of drafted tokens from a batch size on."""

    size: int = Field(alias="from", ge=1, le=MOST_REQUESTS, description="Decoding requests from which on it holds, until the next rule.")
    tokens: int = Field(ge=0, le=MOST_DRAFTED, description="Tokens drafted in a row. 0 = the batch does not speculate.")


class SpeculationSection(Section):
    """Speculative decoding: a draft proposes tokens, and the model verifies them in one step (docs/speculation.md)."""

    method: Method | None = Field(
        default=None,
        description="Who drafts: a small model (`draft-model`), a head on the model's hidden states (`eagle`, `eagle3`), the model's own"
        " multi-token prediction layers (`mtp`), or what followed the last tokens earlier in the context (`ngram`).",
    )
    draft: str | None = Field(
        default=None, description="The small model of `draft-model`: a bundled name or a path to a config.json, as `model` takes."
    )
    tokens: int | None = Field(
        default=None, ge=0, le=MOST_DRAFTED, description="Tokens drafted in a row; of a tree, its depth. 0 = no speculation."
    )
    top_k: int = Field(default=1, ge=1, le=MOST_DRAFTED, description="Branches of a tree at each of its nodes. 1 = a chain.")
    verify_tokens: int | None = Field(
        default=None,
        ge=2,
        le=1024,
        description="Tokens that a step verifies of one request, the one that decoding alone would compute included. Default: tokens + 1.",
    )
    acceptance: AcceptanceSection | None = Field(default=None, description="How often drafted tokens are accepted. Required; no default.")
    by_batch: list[ByBatchSection] = Field(
        default_factory=list, description="Other numbers of tokens for larger batches, by the decoding requests of a step."
    )

    def resolved(self) -> dict[str, Any]:
        """As in an experiment, without what is not stated."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
