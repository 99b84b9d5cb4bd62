"""What clusters have in common: their workers must run the simserve that asks, or the rows would not be what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from simserve.errors import ConfigError
from simserve.study.cache import code_digest


def asks_for_digest() -> Callable[[], str]:
    """A function for a worker: the digest of its simserve, or in words why it has none.

    Made here, it travels as code: a worker without simserve could not even receive one that lives in a module of it.
    """

    def digest() -> str:
        try:
            from simserve.study.cache import code_digest
        except ImportError as error:
            return f"cannot import it: {error}"
        return code_digest()

    return digest


def refuse_other_versions(backend: str, address: str | None, answers: Iterable[str]) -> None:
    """Raises ConfigError when a worker's answer is not the digest of this process."""
    own = code_digest()
    for answer in answers:
        if answer != own:
            problem = answer if " " in answer else "has another version of it, or other code"
            where = f"a worker at {address}" if address else "a worker"
            raise ConfigError(
                f"backend {backend}: {where} cannot stand in for this simserve: it {problem}; install the same one on every node"
            )
