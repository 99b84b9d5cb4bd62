"""The request with the fewest tokens (prompt and true output) first: an oracle, the bound for policies that predict output lengths."""

from __future__ import annotations

from typing import Any, cast

from simserve.contracts import OracleRequest, Request

oracle = True
dynamic = False


def key(request: Request) -> Any:
    """Smallest first."""
    return request.prompt_tokens + cast("OracleRequest", request).output_tokens


def victim_key(request: Request) -> Any:
    """The most recently admitted is preempted first."""
    return request.admission
