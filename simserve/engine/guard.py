"""`--check`: everything that policies are given raises when anything but the engine writes it, or reads what is private.

Without the check views and counts of blocks are guarded at no cost (`readonly.py`); requests, queues and lists are guarded here, by looking
at who calls. A write by a policy becomes a PolicyError where the policy is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from simserve.contracts import CostModel, CostWrapper, DecodeSteps, Step
from simserve.contracts.cost import F64
from simserve.engine.cluster_view import ClusterView
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.kv_view import KvView
from simserve.engine.plan import StepPlan
from simserve.engine.readonly import ReadOnlyError, blame, write
from simserve.engine.request import LiveRequest, OracleRequest
from simserve.engine.speculating_group import SpeculatingGroup
from simserve.engine.view import InstanceView
from simserve.engine.waiting import FcfsQueue, SortedQueue

if TYPE_CHECKING:
    from simserve.engine.instance import Instance
    from simserve.engine.simulate import Simulation

MUTATORS = {
    list: ("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", "__delitem__", "__iadd__", "__imul__", "__setitem__"),
    dict: ("clear", "pop", "popitem", "setdefault", "update", "__delitem__", "__ior__", "__setitem__"),
    FcfsQueue: ("push", "give_back", "requeue", "remove"),
    SortedQueue: ("push", "give_back", "requeue", "remove"),
    DecodeGroup: ("join", "leave", "pop_ended"),
    SpeculatingGroup: ("join", "leave", "pop_ended", "emitted", "draft", "took", "advance"),
}
"""Methods that change an object of a kind."""


def _by_engine() -> bool:
    """Whether the caller's caller is the engine (or `copy`, whose copies are no shared state; or SimPy, where the engine is compiled and
    has no frames of its own: it calls nothing of a policy's)."""
    name: str = sys._getframe(2).f_globals.get("__name__", "")
    return name.startswith(("simserve.engine.", "simpy.")) or name == "copy"


def guarded(kind: Any, called: str, private: bool = False, free: tuple[str, ...] = ()) -> type[Any]:
    """A subclass of the same layout that the engine alone may write, and, with `private`, whose private attributes it alone may read.
    `called` = what policies know it as; `free` = attributes that may be set from anywhere. Of a dictionary others read a guarded copy: who
    calls the methods of a dictionary is not known where the engine is compiled."""

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name not in free and not _by_engine():
            raise ReadOnlyError(f"sets {called}.{name}")
        kind.__setattr__(self, name, value)

    def get_attribute(self: Any, name: str) -> Any:
        if name[0] == "_" and name[:2] != "__" and not _by_engine():
            raise ReadOnlyError(f"reads {called}.{name}")
        found = kind.__getattribute__(self, name)
        return found if found.__class__ is not dict or _by_engine() else Members(found)

    def refusing(method: str) -> Callable[..., Any]:
        def refuse(self: Any, *arguments: Any, **options: Any) -> Any:
            if not _by_engine():
                raise ReadOnlyError(f"changes {called} ({method})")
            return getattr(kind, method)(self, *arguments, **options)

        return refuse

    parts: dict[str, Any] = {method: refusing(method) for method in MUTATORS.get(kind, ())}
    parts["__setattr__"] = set_attribute
    if private:
        parts["__getattribute__"] = get_attribute
    if not kind.__dictoffset__:  # its instances have no room for other attributes: slots, or compiled
        parts["__slots__"] = ()
    return type(f"Guarded{kind.__name__}", (kind,), parts)


Request = guarded(LiveRequest, "request")
Oracle = guarded(OracleRequest, "request")
Request.kinds = Oracle.kinds = (Request, Oracle)
View = guarded(InstanceView, "view", private=True)
Kv = guarded(KvView, "view.kv", private=True)
Plan = guarded(StepPlan, "plan", private=True, free=("repeat",))
GROUPS = {kind: guarded(kind, "view.decoding", private=True) for kind in (DecodeGroup, SpeculatingGroup)}
Members = guarded(dict, "view.decoding")
Router = guarded(ClusterView, "view", private=True)
Prefilling, Swapped, Verifying = (guarded(list, f"view.{name}") for name in ("prefilling", "swapped", "verifying"))
COLUMNS = {name: guarded(list, f"view.{name}") for name in ("outstanding", "waiting", "prompt_tokens")}
QUEUES = {kind: guarded(kind, "view.waiting", private=True) for kind in (FcfsQueue, SortedQueue)}


def guard(simulation: Simulation) -> None:
    """Guards everything that the policies of a run will be given. Before it starts."""
    simulation.request_kind = Request
    for instance in simulation.instances:
        _guard_instance(instance)
    cluster = simulation.cluster
    signals = simulation.instances[0].signals
    for name, kind in COLUMNS.items():
        setattr(signals, name, kind(getattr(signals, name)))
    for view in (cluster.entry.view, cluster.decode.view):
        if not cluster.spec.refresh_s:  # stale columns are copies
            for name in COLUMNS:
                write(view, name, getattr(signals, name))
        write(view, "__class__", Router)


def _guard_instance(instance: Instance) -> None:
    name = getattr(instance.order, "__name__", type(instance.order).__name__)
    order = instance.order
    key, victim_key = order.key, _blamed(order.victim_key, name)
    instance.order = SimpleNamespace(key=key and _blamed(key, name), victim_key=victim_key, oracle=order.oracle, dynamic=order.dynamic)
    waiting = instance.intake.waiting
    if isinstance(waiting, SortedQueue) and key is not None:
        waiting._key = _blamed(key, name)
    write(waiting, "__class__", QUEUES[type(waiting)])
    for lane in instance.lanes:
        lane.cost = _Priced(lane.cost)
        batch = lane.batch
        view = lane.view
        batch.prefilling = Prefilling(batch.prefilling)
        batch.swapped = Swapped(batch.swapped)
        batch.verifying = Verifying(batch.verifying)
        write(view, "verifying", batch.verifying)
        write(view, "prefilling", batch.prefilling)
        write(view, "swapped", batch.swapped)
        write(lane.group, "__class__", GROUPS[type(lane.group)])
        write(view.kv, "__class__", Kv)
        write(lane.plan, "__class__", Plan)
        write(view, "__class__", View)


def _blamed(key: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """The key of a queue discipline; one that writes is named."""

    def ask(request: LiveRequest) -> Any:
        try:
            return key(request)
        except ReadOnlyError as problem:
            blame(f"queue discipline '{name}'", problem)

    return ask


class _Priced(CostWrapper):
    """A cost model that is named if it writes the step that it is asked to price."""

    def __init__(self, inner: CostModel) -> None:
        self.inner = inner

    def stage_times(self, step: Step) -> tuple[float, ...]:
        with self._named():
            return self.inner.stage_times(step)

    def step_time(self, step: Step) -> float:
        with self._named():
            return self.inner.step_time(step)

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        with self._named():
            return self.inner.decode_times(step, steps)

    def verify_times(self, steps: DecodeSteps) -> list[float] | F64:
        with self._named():
            return self.inner.verify_times(steps)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ReadOnlyError as problem:
            blame(f"cost model '{type(self.inner).__name__}'", problem)
