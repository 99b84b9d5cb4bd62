"""Whose mistake an exception is: a third party's policy or cost model that raises is named with the file and the line, and is no bug of
ours."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from simserve import plugins
from simserve.errors import PolicyError, SimserveError
from simserve.files.words import clipped
from simserve.policies import registry


class Origin(NamedTuple):
    """The innermost place in a third party's code. `sure`: the policy's own class or module was among the callers."""

    policy: str
    file: str
    line: int
    function: str
    sure: bool


@contextmanager
def named() -> Iterator[None]:
    """Turns an exception that comes out of a third party's policy into a PolicyError that says so; others pass."""
    try:
        yield
    except SimserveError:
        raise
    except (Exception, SystemExit) as problem:  # sys.exit() in a policy would end the whole study without a word
        error = as_policy_error(problem)
        if error is None:
            raise
        raise error from problem


def as_policy_error(problem: BaseException) -> PolicyError | None:
    """The exception as one of a third party's policy; None when no code of an installed policy was running."""
    policies = [*registry.third_party(), *_cost_models()]
    origin = _origin(problem, policies) if policies else None
    if origin is None:
        return _incomplete(problem, policies) if isinstance(problem, AttributeError) else None
    what = f"{type(problem).__name__}: {clipped(str(problem), 200)}" if str(problem) else type(problem).__name__
    return PolicyError(f"{origin.policy} failed in {origin.function}, {origin.file}:{origin.line}: {what} (--debug shows the traceback)")


def _cost_models() -> list[tuple[str, str, str]]:
    return [(plugin.point.module, plugin.point.attr, plugin.words) for plugin in plugins.found("simserve.cost_models").values()]


def _incomplete(problem: AttributeError, policies: list[tuple[str, str, str]]) -> PolicyError | None:
    """The engine asked a policy for something that the contract says it has."""
    asked = problem.obj if isinstance(problem.obj, type) else type(problem.obj)
    owner = _owner(asked.__module__, f"{asked.__qualname__}.", policies)
    if owner is None or not owner[1]:
        return None
    return PolicyError(f"{owner[0]}: class {asked.__qualname__} lacks '{problem.name}' (see simserve/contracts/policies.py)")


def _origin(problem: BaseException, policies: list[tuple[str, str, str]]) -> Origin | None:
    seen: set[int] = set()
    found = None
    cause: BaseException | None = problem
    while cause is not None and id(cause) not in seen:  # SimPy raises a new exception that carries the first as its cause
        seen.add(id(cause))
        for frame, line in traceback.walk_tb(cause.__traceback__):
            code = frame.f_code
            policy = _owner(str(frame.f_globals.get("__name__", "")), code.co_qualname, policies)
            if policy:
                # The class says which of a module's policies it is; a function beside them was called by one that is known already.
                words, sure = (found.policy, True) if found is not None and found.sure else policy
                found = Origin(words, code.co_filename, line, code.co_name, sure)
        if found is not None:
            return found
        cause = cause.__cause__
    return None


def _owner(module: str, qualname: str, policies: list[tuple[str, str, str]]) -> tuple[str, bool] | None:
    """The policy that runs this function, and whether the function is its own: else it is the first of the module or the package."""
    inside = [policy for policy in policies if policy[0] == module]
    for _, name, words in inside:
        if not name or qualname.startswith(f"{name}."):
            return words, True
    package = module.partition(".")[0]
    near = inside or [policy for policy in policies if policy[0].partition(".")[0] == package]
    return (near[0][2], False) if near else None
