"""What a request may have to wait for before it is computed: KV in another tier, an adapter, the embeddings of an image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simserve.contracts.request import Request


class Loading(NamedTuple):
    """A load that begins now.

    seconds  until it is done, >= 0
    tokens   of the request that are in its KV cache then, whether or not they were before; 0 = the load brings none
    """

    seconds: float
    tokens: int = 0


class LoadSource(Protocol):
    """One of `InstanceSpec.loads`. May keep state: what it holds, what is on its way."""

    def load(self, request: Request, now: float) -> Loading | None:
        """Asked when a request has been given memory and before it gets a sequence slot, once an admission (again after a preemption or a
        failure). None = there is nothing to wait for."""
        ...
