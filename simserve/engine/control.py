"""What a controller may see and do. Every action is checked; one that breaks a rule raises PolicyError with the controller's name (I10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from simserve.contracts.cluster import Decoding, Load, Score
from simserve.engine import migration
from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.scaling_log import Command, Decision
from simserve.engine.spec import ROLES
from simserve.engine.watching import Watch
from simserve.errors import PolicyError
from simserve.files.words import clipped

if TYPE_CHECKING:
    from simserve.engine.cluster import Cluster


class ClusterControl:
    """The cluster in a controller's hands. Instances are numbers."""

    def __init__(self, cluster: Cluster, name: str, number: int = 0) -> None:
        self._cluster = cluster
        self._name = name
        self._number = number
        self._watches: dict[Score, Watch] = {}

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self._cluster.clock.now

    @property
    def states(self) -> list[str]:
        """ "up", "draining", "booting" or "off", by instance number."""
        return [instance.state.value for instance in self._cluster.instances]

    @property
    def roles(self) -> list[str]:
        """ "mixed", "prefill" or "decode", by instance number."""
        return [instance.role for instance in self._cluster.instances]

    @property
    def held(self) -> int:
        """Requests that no instance has taken yet."""
        return len(self._cluster.held)

    def load(self, instance: int) -> Load:
        """Memory and requests of an instance at this moment."""
        return self._instance(instance).load()

    def may_be_below(self, score: Score, bound: float) -> list[int]:
        """Numbers of the instances that drain, and of those that are up and whose load may score below `bound`."""
        watch = self._watches.get(score)
        if watch is None:
            watch = self._watches[score] = Watch(self._cluster.instances, score)
        return watch.below(bound)

    def blocks(self, instance: int, tokens: int) -> int:
        """KV blocks of an instance that a decoding request of `tokens` tokens holds."""
        return self._instance(instance).kv.blocks(tokens, decodes=True)

    def decoding(self, instance: int) -> list[Decoding]:
        """The decoding requests of an instance that are not on their way to another, in order of joining."""
        found = []
        source = self._instance(instance)
        for lane in source.lanes:
            done = lane.steps_done(self.now) if lane.busy and lane.decodes_now else 0
            for request in lane.group:
                if request.row not in source.migrating:
                    tokens = lane.group.computed_after(request, done)
                    found.append(Decoding(request.row, request.priority, tokens, request.admission))
        return found

    def generated(self, instance: int) -> int:
        """Output tokens that the requests which decode at an instance have emitted by now: one for each token added to the KV cache since
        the group's last tick, too."""
        total = 0
        for lane in self._instance(instance).lanes:
            group, done = lane.group, lane.steps_done(self.now) if lane.busy and lane.decodes_now else 0
            for request in group:
                total += group.generated_tokens(request)
                total += group.computed_after(request, done) - group.computed_tokens(request) if done else 0
        return total

    def first_token_waits(self, since_s: float) -> list[float]:
        """Seconds from release to first token of the requests that decode now and had it after `since_s`."""
        return [
            request.first_token_s - request.released_s
            for instance in range(len(self._cluster.instances))
            for lane in self._instance(instance).lanes
            for request in lane.group
            if request.first_token_s > since_s
        ]

    def migrations(self, instance: int) -> int:
        """Migrations under way from or to an instance."""
        under_way = self._cluster.migrations.under_way
        if not under_way:
            return 0
        one = self._instance(instance)
        return sum(one in (move.source, move.destination) for move in under_way.values())

    def migrate(self, row: int, source: int, destination: int) -> str:
        """Starts to move a decoding request. Returns "", or why it cannot be moved there. Raises PolicyError when source and destination
        are the same."""
        if source == destination:
            raise PolicyError(f"controller '{self._name}' migrates request {row} from instance {source} to itself (invariant I10)")
        one, other = self._instance(source), self._instance(destination)
        return migration.begin(self._cluster.migrations, self._cluster.spec.migration, one, other, row)

    def start(self, instance: int) -> None:
        """Starts an instance that is off; it serves after its boot time. One that drains goes on serving."""
        one = self._instance(instance)
        if one.state is InstanceState.DRAINING:
            self._command(instance, "start")
            self._cluster.set_state(one, InstanceState.UP)
        elif one.state is InstanceState.OFF:
            self._command(instance, "start")
            self._cluster.boot(one)

    def drain(self, instance: int) -> None:
        """Stops an instance as soon as the requests it has are done or gone."""
        one = self._instance(instance)
        if one.state is InstanceState.UP:
            self._command(instance, "drain")
            self._cluster.drain(one)
        elif one.state is InstanceState.BOOTING:
            self._command(instance, "drain")
            self._cluster.set_state(one, InstanceState.OFF)

    def decided(
        self, actual: int, desired: int, metric: str = "", value: float | None = None, target: float | None = None, role: str = ""
    ) -> None:
        """Writes a decision into the scaling log, whether anything changes or not."""
        now, number = self.now, self._number
        self._cluster.scaling.decisions.append(Decision(now, number, role, metric, value, target, actual, desired))

    def _command(self, instance: int, what: str) -> None:
        self._cluster.scaling.commands.append(Command(self.now, self._number, int(instance), what))

    def set_role(self, instance: int, role: str) -> None:
        """Makes an instance a "mixed", "prefill" or "decode" one. Raises PolicyError where requests could not be finished."""
        one, cluster = self._instance(instance), self._cluster
        if role not in ROLES:
            self._refuse(f"makes instance {instance} {clipped(repr(role))}; roles are {', '.join(ROLES)}")
        if role == one.role:
            return
        if cluster.kv_transfers is None:
            self._refuse(f"makes instance {instance} '{role}', and the cluster has no prefill and decode instances")
        if role == "prefill" and one.link is None:
            self._refuse(f"makes instance {instance} 'prefill', and no link leaves it for its KV")
        others = {other.role for other in cluster.instances if other is not one} | {role}
        if not {"prefill", "decode"} <= others:
            self._refuse(f"makes instance {instance} '{role}', and leaves no {'decode' if 'prefill' in others else 'prefill'} instance")
        cluster.set_role(one, role)

    def _refuse(self, what: str) -> NoReturn:
        raise PolicyError(f"controller '{self._name}' {what} (invariant I10)")

    def _instance(self, number: int) -> Instance:
        instances = self._cluster.instances
        if not isinstance(number, int) or not 0 <= number < len(instances):
            raise PolicyError(
                f"controller '{self._name}' names instance {number!r}; there are instances 0 to {len(instances) - 1} (invariant I10)"
            )
        return instances[number]
