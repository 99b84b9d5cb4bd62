"""The instances together: which of them take requests, where a request goes, what happens when one dies, starts or stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from simserve import contracts
from simserve.contracts import Refusal, Request, Router, capable
from simserve.engine.clock import Clock, Event
from simserve.engine.cluster_view import ClusterView
from simserve.engine.control import ClusterControl
from simserve.engine.events import TIMER
from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.kv_transfers import KvTransfers
from simserve.engine.listener import Listener
from simserve.engine.migration import MigrationLog
from simserve.engine.nodes import NodePool
from simserve.engine.provisioning import BOOT, IMAGE, RESTART, Stage
from simserve.engine.readonly import ReadOnlyError, blame
from simserve.engine.request import LiveRequest
from simserve.engine.scaling_log import ScalingLog, ScalingNotes, with_nodes
from simserve.engine.signals import Signals
from simserve.engine.spec import ROLES, ClusterSpec, Failures
from simserve.engine.timers import Ticker, Timers
from simserve.errors import ConfigError, PolicyError
from simserve.files.words import clipped


class Pool:
    """Instances among which one router chooses: those whose role is one of `takes`, now."""

    def __init__(self, takes: tuple[str, ...], router: Any, signals: Signals, all_instances: list[Instance], stale: bool) -> None:
        self._takes = takes
        self._all_instances = all_instances
        self.router = router
        self._signals = signals
        self.crosses = capable(router, "crosses_roles")
        names, roles = tuple(instance.spec.name for instance in all_instances), tuple(instance.role for instance in all_instances)
        loads = [instance.load for instance in all_instances]
        self.view = ClusterView(names, roles, signals, lambda number, exact: loads[number](exact), stale)
        self.update()

    def update(self) -> None:
        """An instance has changed its life or its role."""
        self.members = [instance for instance in self._all_instances if instance.role in self._takes]
        self.view.set_roles(tuple(instance.role for instance in self._all_instances))
        self.view.set_open([instance.index for instance in self.members if instance.state is InstanceState.UP])
        self._open = set(self.view.open)

    def choose(self, request: LiveRequest, now: float, source: int = -1) -> int | Refusal | None:
        """What the router says; None also when no instance takes requests. Raises PolicyError for an instance that is not open."""
        view = self.view
        if not view.open:
            return None
        self._signals.now, self._signals.source = now, source
        try:
            chosen = self.router.choose(request, view)
        except ReadOnlyError as problem:
            blame(f"router '{type(self.router).__name__}'", problem)
        if chosen is None or isinstance(chosen, Refusal):
            return chosen
        if chosen.__class__ is int and chosen in self._open:
            return chosen
        if not self._is_open(chosen):
            names = ", ".join(str(number) for number in view.open)
            raise PolicyError(
                f"router '{type(self.router).__name__}' sends {request!r} to {clipped(repr(chosen))}; instances that take requests: "
                f"{names} (invariant I10)"
            )
        return int(chosen)

    def _is_open(self, chosen: Any) -> bool:
        try:
            return chosen in self._open
        except TypeError:  # a list, say
            return False


class _TheOne(Router):
    """The router of a pool of one instance."""

    def choose(self, request: Request, view: contracts.ClusterView) -> int:
        if len(view.names) > 1 and len(view.open) > 1:
            raise ConfigError(f"{len(view.open)} instances take requests and no router is given: ClusterSpec(router=...)")
        return view.open[0]


class Cluster:
    """Routing, states and failures of the instances of a run."""

    def __init__(
        self,
        spec: ClusterSpec,
        instances: list[Instance],
        signals: Signals,
        clock: Clock,
        listener: Listener,
    ) -> None:
        self.spec = spec
        self.instances = instances
        self.clock = clock
        self.migrations = MigrationLog()
        self.held: deque[LiveRequest] = deque()
        """Requests that no instance has taken yet, in order."""
        self.has_held = False
        """Whether there has ever been one."""
        self.states = [(0.0, instance.index, instance.state.value) for instance in instances if instance.state is not InstanceState.UP]
        self.failures = 0
        self._listener = listener
        stale = spec.refresh_s > 0
        router, decode_router = spec.router or _TheOne(), spec.decode_router or _TheOne()
        if capable(decode_router, "crosses_roles") and spec.push:
            raise ConfigError("a router that crosses roles decides when the prefill has ended: the KV transfer must be a pull")
        first, second = ROLES if capable(router, "crosses_roles") else ("mixed", "prefill"), ("decode",)
        self.entry = Pool(first, router, signals, instances, stale)
        self.decode = Pool(ROLES if capable(decode_router, "crosses_roles") else second, decode_router, signals, instances, stale)
        self.roles: list[tuple[float, int, str]] = []
        """Changes of roles: seconds, number, the new role."""
        self.hear_ends: list[Any] = [policy for policy in (router, decode_router, *spec.controllers) if capable(policy, "hears_ends")]
        """Routers and controllers that are told of ends."""
        self.kv_transfers = self._connect()
        self._timers = Timers(clock, self._progress)
        self._tickers: list[Ticker] = []
        self._snapshot: Ticker | None = None
        if stale:
            self._snapshot = Ticker(clock, spec.refresh_s, self._refresh, self._requests_in_system, self._timers)
            self._tickers.append(self._snapshot)
        self.scaling = ScalingNotes(tuple(type(controller).__name__ for controller in spec.controllers))
        for number, controller in enumerate(spec.controllers):
            control = ClusterControl(self, type(controller).__name__, number)
            goes_on = self._requests_left if capable(controller, "idle") else self._requests_in_system
            self._tickers.append(Ticker(clock, controller.interval_s, _acts(controller, control), goes_on, self._timers))
        self._boots: dict[int, Event] = {}
        self.pools = [NodePool(one, clock, self._timers, self._start) for one in spec.node_pools]
        """Nodes for instances to stand on; empty where they need none."""
        for number, pool in enumerate(self.pools):
            mine = [one for one in instances if one.spec.pool == number]
            for one in mine:
                pool.spec.nodes_of(one.spec.devices)
            pool.begin([one for one in mine if one.state is InstanceState.UP])
        if spec.failures is not None:
            self._plan_failures(spec.failures)

    def _connect(self) -> KvTransfers | None:
        """Joins prefill and decode instances. Raises ConfigError when a request could not be finished."""
        roles = {instance.spec.role for instance in self.instances}
        if "decode" not in roles and "prefill" not in roles:
            return None
        if not {"decode", "prefill"} <= roles:
            found, missing = ("prefill", "decode") if "prefill" in roles else ("decode", "prefill")
            raise ConfigError(f"the cluster has {found} instances and no {missing} instance: requests could not be finished")
        kv_transfers = KvTransfers(self._decoder, self.spec.push, self.spec.layerwise, self.decode.crosses)
        for instance in self.instances:
            if instance.spec.role != "mixed":
                instance.kv_transfers = kv_transfers
        return kv_transfers

    def _decoder(self, request: LiveRequest, source: Instance) -> Instance | None:
        chosen = self.decode.choose(request, self.clock.now, source.index)
        if isinstance(chosen, Refusal):
            raise PolicyError(f"router '{type(self.decode.router).__name__}' refuses a request that has been prefilled (invariant I1)")
        return None if chosen is None else self.instances[chosen]

    # -- routing -------------------------------------------------------------------------------------------------------------------

    def route(self, request: LiveRequest, now: float) -> Instance | Refusal | None:
        """Where a request goes. None = it is held here."""
        if self._tickers:
            self._wake()
        chosen = self.entry.choose(request, now) if not self.held else None
        if chosen is None:
            self.held.append(request)
            self.has_held = True
            return None
        return chosen if isinstance(chosen, Refusal) else self.instances[chosen]

    def release_held(self, now: float, deliver: Callable[[LiveRequest, Instance | Refusal], None]) -> None:
        """Asks the router again for the requests held, in order, until it holds one."""
        while self.held:
            chosen = self.entry.choose(self.held[0], now)
            if chosen is None:
                return
            request = self.held.popleft()
            deliver(request, chosen if isinstance(chosen, Refusal) else self.instances[chosen])

    def _wake(self) -> None:
        if self._snapshot is not None and self._snapshot.asleep:
            self._refresh(self.clock.now)  # nothing has happened since it fell asleep
        for ticker in self._tickers:
            ticker.wake()

    def _refresh(self, now: float) -> None:
        self.entry.view.refresh()
        self.decode.view.refresh()
        self.ask_again(now)

    def ask_again(self, now: float) -> None:
        """A request has ended somewhere, or signals have been refreshed: routers are asked again for those that wait for an instance."""
        if self.kv_transfers is not None and self.kv_transfers.unassigned:
            self.kv_transfers.retry()
        if self.held:
            self._listener.instance_available(now)

    def _progress(self) -> tuple[int, int, int]:
        """Differs when a request has come or ended, or a step has begun or ended."""
        return *self._listener.requests_left(), sum(
            lane.steps_dropped + len(lane.step_end_s) for instance in self.instances for lane in instance.lanes
        )

    def _requests_in_system(self) -> bool:
        return self._listener.requests_left()[0] > 0

    def _requests_left(self) -> bool:
        return self._listener.requests_left()[1] > 0

    def set_role(self, instance: Instance, role: str) -> None:
        """An instance takes other requests from now on. Those it has go on where they are, or leave as its new role has it; those on their
        way here to decode still come."""
        instance.role = role
        instance.kv_transfers = instance.kv_transfers or self.kv_transfers
        self.roles.append((self.clock.now, instance.index, role))
        self.entry.update()
        self.decode.update()
        if instance.state is InstanceState.UP:
            if self.kv_transfers is not None:
                self.kv_transfers.retry()
            self._listener.instance_available(self.clock.now)

    # -- states ---------------------------------------------------------------------------------------------------------------------

    def set_state(self, instance: Instance, state: InstanceState, keeps_node: bool = False) -> None:
        """An instance starts, drains, stops (and gives its devices back, unless it keeps them) or dies."""
        instance.state = state
        self.states.append((self.clock.now, instance.index, state.value))
        self.scaling.became(instance.index, state, self.clock.now)
        if state is InstanceState.OFF and not keeps_node and self.pools:
            self.pools[instance.spec.pool].release(instance)
        self.entry.update()
        self.decode.update()
        if state is InstanceState.UP:
            if self._requests_in_system():
                self._wake()
            if self.kv_transfers is not None:
                self.kv_transfers.retry()
            self._listener.instance_available(self.clock.now)

    def boot(self, instance: Instance) -> None:
        """The instance starts as soon as it has devices, and serves when it has."""
        self.set_state(instance, InstanceState.BOOTING)
        self.scaling.ordered(instance.index, self.clock.now)
        if self.pools:
            self.pools[instance.spec.pool].ask(instance)
        else:
            self._start(instance, 0.0)

    def _start(self, instance: Instance, image_s: float) -> None:
        """An instance has its devices; the image is there after so many seconds."""
        own = instance.spec.stages or (Stage(BOOT, instance.spec.boot_s),)
        self._serves_after(instance, image_s + instance.spec.boot_s, (Stage(IMAGE, image_s), *own) if image_s else own)

    def _serves_after(self, instance: Instance, delay_s: float, stages: tuple[Stage, ...]) -> None:
        now = self.clock.now
        self.scaling.placed(instance.index, now, stages)
        self._boots[instance.index] = self._timers.at("start", now + delay_s, lambda event: self._booted(instance, event))

    def _booted(self, instance: Instance, event: Event) -> None:
        if self._boots.get(instance.index) is event and instance.state is InstanceState.BOOTING:
            self.set_state(instance, InstanceState.UP)

    def drain(self, instance: Instance) -> None:
        """The instance takes no more requests and stops when the last one has left it."""
        self.set_state(instance, InstanceState.DRAINING)
        if not instance.outstanding:
            self.set_state(instance, InstanceState.OFF)

    def scaling_log(self) -> ScalingLog | None:
        """What controllers decided, how instances started, and on which nodes they stood; None of a run in which nothing scales."""
        nodes = tuple(times for number, pool in enumerate(self.pools) for times in pool.times(number))
        first = np.cumsum([0, *(len(pool.nodes) for pool in self.pools)]).tolist()
        stays = [one._replace(node=one.node + first[number]) for number, pool in enumerate(self.pools) for one in pool.stays]
        by_time = tuple(sorted(stays, key=lambda one: one.from_s))
        of_instances = tuple(instance.spec.pool for instance in self.instances)
        return with_nodes(self.scaling.log(), self.spec.node_pools, of_instances, nodes, by_time)

    # -- failures ------------------------------------------------------------------------------------------------------------------

    def _plan_failures(self, failures: Failures) -> None:
        for at_s, number in failures.times:
            if not 0 <= number < len(self.instances):
                raise ConfigError(f"failures: there is no instance {number}; instances are 0 to {len(self.instances) - 1}")
            self.clock.at(at_s, _kills(self, self.instances[number]), TIMER)
        if failures.mtbf_s is not None:
            for instance, seed in zip(self.instances, np.random.SeedSequence(failures.seed).spawn(len(self.instances)), strict=True):
                self._next_failure(instance, np.random.Generator(np.random.PCG64(seed)), failures.mtbf_s)

    def _next_failure(self, instance: Instance, draw: np.random.Generator, mtbf_s: float) -> None:
        def strike(event: Event) -> None:
            if self._requests_left() and not self._timers.stuck:
                self.kill(instance)
                self._next_failure(instance, draw, mtbf_s)

        self._timers.at("failure", self.clock.now + float(draw.exponential(mtbf_s)), strike)

    def kill(self, instance: Instance) -> None:
        """The instance dies, with all KV in it, and comes back after the restart time. One that does not run cannot die."""
        if instance.state not in (InstanceState.UP, InstanceState.DRAINING) or not self._requests_left():
            return
        failures = self.spec.failures
        assert failures is not None
        now = self.clock.now
        self.failures += 1
        comes_back = instance.state is InstanceState.UP
        self.set_state(instance, InstanceState.OFF, keeps_node=comes_back)
        for migration in list(self.migrations.under_way.values()):
            if instance in (migration.source, migration.destination):
                migration.abort("an instance died")
        lost = instance.crash(now)
        if self.kv_transfers is not None:
            lost += self.kv_transfers.crash(instance)
        if comes_back:
            self.set_state(instance, InstanceState.BOOTING)
            self.scaling.ordered(instance.index, now)
            self._serves_after(instance, failures.restart_s, (Stage(RESTART, failures.restart_s),))
        for request in lost:
            self._listener.request_lost(request, instance, failures.rule, now)


def _acts(controller: Any, control: ClusterControl) -> Callable[[float], None]:
    def act(now: float) -> None:
        controller.act(control)

    return act


def _kills(cluster: Cluster, instance: Instance) -> Callable[[Event], None]:
    return lambda event: cluster.kill(instance)
