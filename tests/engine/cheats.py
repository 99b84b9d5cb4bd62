"""Policies that write what they may only read. Each scheduler is a planner as in `outlaws.py`, each router and key a plain function.

name -> (the crime, words the error must contain).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.engine.outlaws import Planner, serve

Touch = Callable[[Any], Any]
"""What a scheduler does to its view, or a queue discipline to a request; for routers with the request first."""


def touching(touch: Touch) -> Planner:
    """A plain policy that begins with the crime."""

    def plan(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        touch(plan if touch in OF_PLANS else view)
        return serve(view, plan)

    return plan


def after_serving(touch: Touch) -> Planner:
    """A plain policy that ends with the crime."""

    def plan(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        serve(view, plan)
        touch(plan if touch in OF_PLANS else view)
        return plan

    return plan


def more(name: str) -> Touch:
    """Adds to an attribute with a dotted name."""

    def touch(root: Any) -> None:
        *path, last = name.split(".")
        for part in path:
            root = getattr(root, part)
        setattr(root, last, (getattr(root, last) or 0) + 1000)

    return touch


OF_PLANS: set[Touch] = set()
"""Crimes at a plan."""


def of_plan(touch: Touch) -> Touch:
    OF_PLANS.add(touch)
    return touch


def first_waiting(touch: Touch) -> Touch:
    return lambda view: [touch(request) for request in list(view.waiting)[:1]]


ALWAYS: dict[str, tuple[Touch, str]] = {
    "frees-blocks": (more("kv.free_blocks"), "view.kv.free_blocks"),
    "uses-blocks": (more("kv.used_blocks"), "view.kv.used_blocks"),
    "adds-blocks": (more("kv.total_blocks"), "view.kv.total_blocks"),
    "lowers-the-watermark": (more("kv.watermark_blocks"), "view.kv.watermark_blocks"),
    "adds-sequence slots": (more("max_seqs"), "view.max_seqs"),
    "moves-time": (more("now"), "view.now"),
    "longer-model": (more("max_model_tokens"), "view.max_model_tokens"),
    "another-queue": (lambda view: setattr(view, "waiting", []), "view.waiting"),
    "another-plan": (lambda view: delattr(view, "new_plan"), "view.new_plan"),
    "its-own-attribute": (lambda view: setattr(view, "memory", 1), "view.memory"),
    "private-counts": (more("kv._kv._free"), "counts of KV blocks"),
}
"""Refused in every run."""

PRIVATE = {"private-counts"}

CHECKED: dict[str, tuple[Touch, str]] = {
    "priority": (first_waiting(more("priority")), "request.priority"),
    "arrival": (first_waiting(more("entered_s")), "request.entered_s"),
    "held-blocks": (first_waiting(more("held_blocks")), "request.held_blocks"),
    "computed-tokens": (first_waiting(more("computed_tokens")), "request.computed_tokens"),
    "state": (first_waiting(lambda request: setattr(request, "state", 3)), "request.state"),
    "appends": (lambda view: view.prefilling.append(None), "view.prefilling"),
    "clears": (lambda view: view.swapped.clear(), "view.swapped"),
    "empties-the-queue": (lambda view: [view.waiting.remove(request) for request in list(view.waiting)], "view.waiting"),
    "private-queue": (lambda view: view.waiting._queue.clear(), "view.waiting._queue"),
    "tick": (more("decoding.tick"), "view.decoding.tick"),
    "members": (lambda view: view.decoding.members.clear(), "view.decoding"),
    "leaves": (lambda view: [view.decoding.leave(request) for request in list(view.decoding)], "view.decoding"),
    "private-verbs": (lambda view: view.kv._kv.take(1), "view.kv._kv"),
    "private-lane": (lambda view: view._batch, "view._batch"),
    "private-plan": (of_plan(lambda plan: plan._batch), "plan._batch"),
    "budget": (of_plan(lambda plan: setattr(plan, "budget_left", 10**6)), "plan.budget_left"),
}
"""Refused under `--check`."""


def _wrong(name: str) -> Callable[[Any, Any], Any]:
    return lambda request, view: more(name)(SimpleNamespace(request=request, view=view))


ROUTERS: dict[str, tuple[Callable[[Any, Any], Any], str, bool]] = {
    "moves-time": (_wrong("view.now"), "view.now", False),
    "another-source": (_wrong("view.source"), "view.source", False),
    "another-column": (lambda request, view: setattr(view, "outstanding", [0, 0]), "view.outstanding", False),
    "priority": (_wrong("request.priority"), "request.priority", True),
    "prompt": (_wrong("request.prompt_tokens"), "request.prompt_tokens", True),
    "outstanding": (lambda request, view: view.outstanding.__setitem__(0, 9), "view.outstanding", True),
    "private": (lambda request, view: view._signals, "view._signals", True),
}
"""name -> (the crime, words, whether it takes `--check` to find it)."""
