"""Distributions of prompt and output lengths, in whole tokens >= 1."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.bounds import MOST_TOKENS
from simserve.workload.requests import F64, I64

_Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class _Length(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fixed(_Length):
    """Always the same."""

    kind: Literal["fixed"] = "fixed"
    tokens: _Tokens = Field(description="length, tokens")

    def sample(self, rng: np.random.Generator, n: int) -> I64:
        return np.full(n, self.tokens, dtype=np.int64)


class Uniform(_Length):
    """Every whole number between two limits, equally likely."""

    kind: Literal["uniform"] = "uniform"
    low_tokens: _Tokens = Field(description="smallest length, tokens")
    high_tokens: _Tokens = Field(description="largest length, tokens (included)")

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low_tokens > self.high_tokens:
            raise ValueError(f"low_tokens {self.low_tokens} is above high_tokens {self.high_tokens}")
        return self

    def sample(self, rng: np.random.Generator, n: int) -> I64:
        return rng.integers(self.low_tokens, self.high_tokens + 1, n)


class _Bounded(_Length):
    min_tokens: _Tokens = Field(default=1, description="shorter draws become this, tokens")
    max_tokens: _Tokens = Field(default=131_072, description="longer draws become this, tokens")

    @model_validator(mode="after")
    def _ordered(self) -> _Bounded:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self

    def _whole(self, x: F64) -> I64:
        return np.rint(np.clip(x, self.min_tokens, self.max_tokens)).astype(np.int64)


class Normal(_Bounded):
    """Gaussian around a mean (the published FastGen benchmark draws its lengths so, with 30 % spread)."""

    kind: Literal["normal"] = "normal"
    mean_tokens: float = Field(gt=0, le=MOST_TOKENS, allow_inf_nan=False, description="mean length, tokens")
    sd_tokens: float = Field(ge=0, le=MOST_TOKENS, allow_inf_nan=False, description="standard deviation, tokens")

    def sample(self, rng: np.random.Generator, n: int) -> I64:
        return self._whole(rng.normal(self.mean_tokens, self.sd_tokens, n))


class Lognormal(_Bounded):
    """Lognormal around a median."""

    kind: Literal["lognormal"] = "lognormal"
    median_tokens: float = Field(gt=0, le=MOST_TOKENS, allow_inf_nan=False, description="median length, tokens")
    sigma: float = Field(ge=0, le=10, description="standard deviation of the natural logarithm")

    def sample(self, rng: np.random.Generator, n: int) -> I64:
        return self._whole(rng.lognormal(np.log(self.median_tokens), self.sigma, n))


class Zipf(_Length):
    """Zipf: the probability of length k falls as k^-exponent between two limits."""

    kind: Literal["zipf"] = "zipf"
    exponent: float = Field(ge=0, le=20, description="exponent; 0 = uniform, BurstGPT's demo uses 1.1")
    low_tokens: _Tokens = Field(default=1, description="smallest length, tokens")
    high_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = Field(description="largest length, tokens (included)")

    @model_validator(mode="after")
    def _ordered(self) -> Zipf:
        if self.low_tokens > self.high_tokens:
            raise ValueError(f"low_tokens {self.low_tokens} is above high_tokens {self.high_tokens}")
        return self

    def sample(self, rng: np.random.Generator, n: int) -> I64:
        k = np.arange(self.low_tokens, self.high_tokens + 1)
        cumulative = np.cumsum(k.astype(np.float64) ** -self.exponent)
        drawn: I64 = k[np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")]
        return drawn


LengthDistribution = Annotated[Fixed | Uniform | Normal | Lognormal | Zipf, Field(discriminator="kind")]
