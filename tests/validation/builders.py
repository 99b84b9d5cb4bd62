"""Small cases for the tests of measured serving runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simserve.validation.case import Case, Lengths, Load


def case(**changes: Any) -> Case:
    """Llama-3.1-8B on one H100 under vLLM V1: eight clients, 256 prompt and 64 output tokens."""
    base = Case(
        dataset="tests",
        label="eight clients",
        run="one",
        engine="vLLM",
        version="0.11",
        profile="vllm-v1",
        gpu="h100-sxm-80gb",
        model="llama-3.1-8b",
        load=Load("closed", Lengths(256.0), Lengths(64.0), requests=80, concurrency=8),
        measured={"ttft_mean": 0.03, "tpot_mean": 0.008},
    )
    return replace(base, **changes)
