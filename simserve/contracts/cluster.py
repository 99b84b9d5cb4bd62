"""What routers and controllers see of the instances, and what a controller may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Load(NamedTuple):
    """The memory and the requests of one instance at a moment.

    free_blocks, total_blocks  of its KV cache
    running      requests that hold KV here: prefilling, decoding, on the host, or landed and waiting for a sequence slot
    waiting      requests in its queue
    head_blocks  blocks that the first of them needs, 0 when none waits
    """

    free_blocks: int
    total_blocks: int
    running: int
    waiting: int
    head_blocks: int


Score = Callable[[Load], float]
"""Must not rise when free_blocks falls, nor when waiting and head_blocks rise."""


class Refusal(NamedTuple):
    """A router's answer that rejects a request."""

    reason: str


class Decoding(NamedTuple):
    """A decoding request as a controller sees it. `tokens` = in the KV cache, prompt included; `admission` rises with each admission."""

    row: int
    priority: int
    tokens: int
    admission: int


class ClusterView(Protocol):
    """What a router sees. Columns are indexed by instance number and as old as the experiment's `refresh_s` allows."""

    @property
    def now(self) -> float:
        """Seconds of simulated time."""

    @property
    def open(self) -> Sequence[int]:
        """Numbers of the instances that take requests now, rising; never empty when a router is asked."""

    @property
    def names(self) -> Sequence[str]:
        """Of all instances."""

    @property
    def roles(self) -> Sequence[str]:
        """Of all instances: "mixed", "prefill" or "decode"."""

    @property
    def source(self) -> int:
        """When a prefilled request is routed: the instance that prefilled it, else -1."""

    @property
    def outstanding(self) -> list[int]:
        """Requests that have been sent to each instance and have not ended there."""

    @property
    def waiting(self) -> list[int]:
        """Of them, those in its queue."""

    @property
    def prompt_tokens(self) -> list[int]:
        """Prompt tokens of the outstanding requests."""

    def least(self, column: list[int]) -> int:
        """The open instance with the smallest number in a column; ties: the lowest number."""

    def load(self, instance: int) -> Load:
        """Memory and requests of an instance. Costs a microsecond an instance, which the columns do not."""

    def best(self, score: Score, role: str = "") -> tuple[int, float]:
        """The open instance whose load scores highest (ties: fewest outstanding, then the lowest number) and its score; with `role`, of
        those of that role; (-1, -inf) when there is none. A few microseconds whatever the number of instances."""


class ClusterControl(Protocol):
    """The cluster in a controller's hands. Instances are numbers. Each action is checked (I10)."""

    @property
    def now(self) -> float:
        """Seconds of simulated time."""

    @property
    def states(self) -> list[str]:
        """ "up", "draining", "booting" or "off", by instance number."""

    @property
    def roles(self) -> list[str]:
        """ "mixed", "prefill" or "decode", by instance number."""

    @property
    def held(self) -> int:
        """Requests that no instance has taken yet."""

    def load(self, instance: int) -> Load:
        """Memory and requests of an instance at this moment."""

    def may_be_below(self, score: Score, bound: float) -> list[int]:
        """Numbers of the instances that drain, and of those that are up and whose load may score below `bound`, rising: all that do, and
        perhaps others, whose `load` says it. Looks closely only at those whose load has changed since it was asked before."""

    def blocks(self, instance: int, tokens: int) -> int:
        """KV blocks of an instance that hold `tokens` tokens."""

    def decoding(self, instance: int) -> list[Decoding]:
        """The decoding requests of an instance that are not on their way to another, in order of joining."""

    def generated(self, instance: int) -> int:
        """Output tokens that the requests which decode at an instance have emitted, wherever they did."""

    def first_token_waits(self, since_s: float) -> list[float]:
        """Seconds from release to first token of the requests that decode now and had it after `since_s`."""

    def migrations(self, instance: int) -> int:
        """Migrations under way from or to an instance."""

    def migrate(self, row: int, source: int, destination: int) -> str:
        """Starts to move a decoding request. Returns "", or why it cannot be moved there."""

    def start(self, instance: int) -> None:
        """Starts an instance that is off; it serves after its boot time. One that drains goes on serving."""

    def drain(self, instance: int) -> None:
        """Stops an instance as soon as the requests it has are done or gone."""

    def decided(
        self, actual: int, desired: int, metric: str = "", value: float | None = None, target: float | None = None, role: str = ""
    ) -> None:
        """Writes a decision into the scaling log (docs/clusters.md), whether anything changes or not: the instances that serve or start
        now and that are to, the metric that says so with its value and target, the role of the instances."""

    def set_role(self, instance: int, role: str) -> None:
        """Makes an instance a "mixed", "prefill" or "decode" one, in a cluster that has prefill and decode instances and keeps them.
        Requests it has to decode go on there; what it prefills from now on leaves, or stays, as its new role has it."""
