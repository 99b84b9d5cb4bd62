"""What there is to choose from: families (instances of one make) and plans (so many of them), within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from simserve.bounds import MOST_DEVICES
from simserve.config.experiment import Experiment
from simserve.config.plan_section import DEFAULT_DEVICES, PlanSection, ratio_of
from simserve.config.speculation_section import SpeculationSection
from simserve.errors import ConfigError, ModelError, nearest
from simserve.model import ModelArchitecture
from simserve.model.layout import check
from simserve.model.parallel import Parallel
from simserve.policies import registry
from simserve.study.placement.placement import Placement, Pool

_BUDGET_PARAMETERS = ("max_num_batched_tokens", "token_budget", "chunked_prefill_size")
"""What policies call the tokens of a step."""

_FIXED = ("workload", "seed", "slo", "until_s", "metrics", "prices", "plan", "hardware", "cluster.instances", "variants")
"""Sections that are the question, or that the plan itself decides: none of `over`."""


class Choice(NamedTuple):
    """One value of one axis: what it is called ("" = the axis has no other), what it changes in the experiment and in each group.

    least  of an autoscaler: the fewest instances that it keeps; None for every other choice
    """

    words: str
    changes: Mapping[str, Any]
    group: Mapping[str, Any]
    least: int | None = None


@dataclass(frozen=True, eq=False)
class Family:
    """Plans that differ in how many instances they have: the devices, the layout of each pool, every other choice.

    shapes         one mixed pool, or a prefill and a decode pool, of one instance each
    usd_per_device_hour  None where the devices have no price
    """

    hardware: str
    shapes: tuple[Pool, ...]
    choices: tuple[Choice, ...]
    usd_per_device_hour: float | None
    shown_hardware: bool
    on_nodes: bool = False
    """Its instances stand on node pools: nodes are paid for, which a run says."""

    @property
    def scales_from(self) -> int | None:
        """The fewest instances that its autoscaler keeps; None without one."""
        return next((choice.least for choice in self.choices if choice.least is not None), None)

    def plan(self, counts: Sequence[int], busy: Sequence[float] = ()) -> Plan:
        """So many instances of each pool. `busy`: how many the load keeps busy at best, which an autoscaler cannot go below on average."""
        if self.scales_from is None:
            return Plan(self, tuple(counts))
        return Plan(self, tuple(counts), min(float(sum(counts)), max(float(self.scales_from), sum(busy))))


@dataclass(frozen=True, eq=False)
class Plan:
    """A deployment: `counts` instances of each pool of a family.

    paid_at_least  with an autoscaler, which has at most as many: instances that are paid for on average, at least
    """

    family: Family
    counts: tuple[int, ...]
    paid_at_least: float | None = None

    @property
    def priced_by_run(self) -> bool:
        """Whether what it costs is known only when it has run: with an autoscaler, or on nodes."""
        return self.paid_at_least is not None or self.family.on_nodes

    @property
    def placement(self) -> Placement:
        """The pools with their counts."""
        shapes = zip(self.family.shapes, self.counts, strict=True)
        return Placement(tuple(Pool(s.role, n, s.tp, s.pp, s.dp, s.ep) for s, n in shapes))

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.placement.devices

    @property
    def usd_per_hour(self) -> float | None:
        """What its devices cost an hour; with an autoscaler at least."""
        price = self.family.usd_per_device_hour
        return None if price is None else price * self._paid_devices

    @property
    def order(self) -> float:
        """What plans are ranked by: USD an hour, or devices where there is no price."""
        return self._paid_devices if self.usd_per_hour is None else round(self.usd_per_hour, 9)

    @property
    def _paid_devices(self) -> float:
        return float(self.devices) if self.paid_at_least is None else self.paid_at_least * self.family.shapes[0].devices

    @property
    def name(self) -> str:
        """`2 x tp2 h100-sxm-80gb fp8 max_num_seqs=64`: the layout, then what tells plans apart."""
        layout = str(self.placement).removeprefix("mixed ")
        parts = [layout, *([self.family.hardware] if self.family.shown_hardware else []), *(c.words for c in self.family.choices)]
        return " ".join(part for part in parts if part)

    def changes(self, experiment: Experiment) -> dict[str, Any]:
        """What makes the experiment this plan, by dotted key."""
        changes: dict[str, Any] = {"hardware": self.family.hardware}
        groups = [{key: value for key, value in group.items() if key != "hardware"} for group in self.placement.groups(experiment)]
        for choice in self.family.choices:
            changes |= choice.changes
            groups = [_merged(group, choice.group) for group in groups]
        if self.paid_at_least is not None:
            start = max(1, math.ceil(self.paid_at_least))
            groups = [{**group, "count": min(start, group["count"]), "max_count": group["count"]} for group in groups]
        return {**changes, "cluster.instances": groups}


@dataclass(frozen=True, eq=False)
class Space:
    """All plans. `hardware`: (profile, USD an hour of a device or None); `shapes`: layouts of an instance."""

    section: PlanSection
    hardware: tuple[tuple[str, float | None], ...]
    shapes: tuple[Pool, ...]
    axes: tuple[tuple[Choice, ...], ...]
    on_nodes: bool = False

    def families(self) -> Iterator[Family]:
        """In a fixed order, those with equal step costs beside each other."""
        for hardware, usd in self.hardware:
            for shapes in self._pools():
                for choices in product(*self.axes):
                    yield Family(hardware, shapes, choices, usd, len(self.hardware) > 1, self.on_nodes)

    def counts(self, family: Family) -> list[tuple[int, ...]]:
        """How many instances of each pool the budget allows, fewest devices first."""
        sizes = [shape.devices for shape in family.shapes]
        return sorted(self.any_counts(family), key=lambda c: (sum(n * size for n, size in zip(c, sizes, strict=True)), c))

    def any_counts(self, family: Family) -> Iterator[tuple[int, ...]]:
        """The same in no order, one by one: there may be thousands of millions."""
        most = self._most_devices(family.usd_per_device_hour)
        sizes = [shape.devices for shape in family.shapes]
        least = family.scales_from or 1
        for counts in self._counts(sizes, most):
            if sum(counts) >= least and sum(n * size for n, size in zip(counts, sizes, strict=True)) <= most:
                yield counts

    def count(self) -> int:
        """How many plans there are, without making them."""
        of_axes = math.prod(len(axis) for axis in self.axes)
        return of_axes * sum(
            self._number(Family(hardware, shapes, (), usd, False)) for hardware, usd in self.hardware for shapes in self._pools()
        )

    def _number(self, family: Family) -> int:
        """How many plans a family has; where the budget alone decides that, by division."""
        if self.section.instances is not None or (len(family.shapes) == 2 and self.section.ratios is not None):
            return len(self.counts(family))
        first, *more = (shape.devices for shape in family.shapes)
        most = self._most_devices(family.usd_per_device_hour)
        return sum((most - n * first) // more[0] for n in range(1, (most - more[0]) // first + 1)) if more else most // first

    def count_families(self) -> int:
        """How many families there are."""
        return math.prod(len(axis) for axis in self.axes) * len(self.hardware) * sum(1 for _ in self._pools())

    def _pools(self) -> Iterator[tuple[Pool, ...]]:
        if "colocated" in self.section.roles:
            yield from ((shape,) for shape in self.shapes)
        if "disaggregated" in self.section.roles:
            for prefill, decode in product(self.shapes, self.shapes):
                yield (_of_role(prefill, "prefill"), _of_role(decode, "decode"))

    def _most_devices(self, usd: float | None) -> int:
        budget = self.section.budget
        limits = [float(budget.devices)] if budget.devices is not None else []
        if budget.usd_per_hour is not None and usd is not None:
            limits.append(budget.usd_per_hour / usd + 1e-9)
        return int(min(*limits, MOST_DEVICES)) if limits else DEFAULT_DEVICES

    def _counts(self, sizes: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
        stated = self.section.instances
        if len(sizes) == 2 and self.section.ratios is not None:
            ratios = [ratio_of(text) for text in self.section.ratios]
            scaled = {(k * a, k * b) for a, b in ratios for k in range(1, most // max(1, a * sizes[0] + b * sizes[1]) + 1)}
            yield from scaled
            return
        yield from product(*(stated if stated is not None else range(1, most // size + 1) for size in sizes))


def space(experiment: Experiment, section: PlanSection, model: ModelArchitecture, usd: Mapping[str, float | None]) -> Space:
    """The plans of a section. `usd`: price of a device-hour by hardware profile.

    Raises ConfigError where nothing is left: layouts that the model cannot take, a budget below the cheapest plan.
    """
    for key in section.over:
        if key.split(".")[0] in _FIXED or key.startswith(_FIXED[-2]):
            raise ConfigError(f"plan.over: {key} is part of the question, or decided by the plan; vary other keys")
        if not section.over[key]:
            raise ConfigError(f"plan.over: {key}: an empty list of values")
    most = max(1, section.budget.devices or (DEFAULT_DEVICES if section.budget.usd_per_hour is None else 10**6))
    layouts = tuple(shapes(section, model, most))
    if not layouts:
        tried = ", ".join(f"{name} {list(values)}" for name, values in _ranks(section, most).items())
        raise ConfigError(f"plan: no layout of {model.name} within {tried} ({section.node_devices} devices in a node): see `plan.tp`")
    found = Space(section, tuple(usd.items()), layouts, tuple(_axes(experiment, section)), bool(experiment.spec.cluster.node_pools))
    if found.count() == 0:
        raise ConfigError(_nothing(found))
    return found


def _nothing(found: Space) -> str:
    budget = found.section.budget
    smallest = min(sum(shape.devices for shape in shapes) for shapes in found._pools())
    limits = [f"{budget.devices} device{'s' if budget.devices != 1 else ''}"] if budget.devices is not None else []
    limits += [f"${budget.usd_per_hour:g} an hour"] if budget.usd_per_hour is not None else []
    cheapest = min((price for _, price in found.hardware if price is not None), default=None)
    costs = "" if cheapest is None else f", from ${smallest * cheapest:,.2f} an hour"
    what = " and ".join(limits) or f"{DEFAULT_DEVICES} devices"
    return f"plan.budget: no plan within {what}: the smallest takes {smallest} device{'s' if smallest != 1 else ''}{costs}"


def _ranks(section: PlanSection, most: int) -> dict[str, tuple[int, ...]]:
    top = min(most, section.node_devices)
    tp = section.tp if section.tp is not None else tuple(1 << k for k in range(top.bit_length()) if 1 << k <= top)
    return {"tp": tp, "pp": section.pp, "dp": section.dp, "ep": section.ep}


def shapes(section: PlanSection, model: ModelArchitecture, most: int) -> Iterator[Pool]:
    """The layouts of one instance that the section lists, the model can take and `most` devices hold."""
    for tp, pp, dp, ep in product(*_ranks(section, most).values()):
        if tp > section.node_devices or tp * pp * dp > most:
            continue
        try:
            check(model, Parallel(tp=tp, pp=pp, dp=dp, ep=ep))
        except ModelError:
            continue
        yield Pool("mixed", 1, tp, pp, dp, ep)


def _of_role(shape: Pool, role: str) -> Pool:
    return Pool(role, 1, shape.tp, shape.pp, shape.dp, shape.ep)


def _axes(experiment: Experiment, section: PlanSection) -> Iterator[tuple[Choice, ...]]:
    """What does not change the cost of a step comes last."""
    if section.autoscalers is not None:
        yield _axis([_autoscaler(one) for one in section.autoscalers])
    for key, values in section.over.items():
        yield _axis([Choice(f"{key.rsplit('.', 1)[-1]}={value}", {key: value}, {}) for value in values])
    if section.quantisation is not None:
        yield _axis([Choice(str(q), {"model.quantisation": q}, {}) for q in section.quantisation])
    if section.kv_bits is not None:
        plain = experiment.spec.model_section.options.kv_bits is None
        yield _axis([Choice(f"kv{b:g}", {} if b == 16 and plain else {"model.options.kv_bits": b}, {}) for b in section.kv_bits])
    if section.speculation is not None:
        yield _axis([_speculation(experiment, one) for one in section.speculation])
    if section.prefix_caching is not None:
        yield _axis(
            [Choice("prefix cache" if on else "no prefix cache", {}, {"kv": {"prefix_caching": on}}) for on in section.prefix_caching]
        )
    if section.max_num_batched_tokens is not None:
        name = _budget_parameter(experiment)
        yield _axis([Choice(f"budget={n}", {}, {"scheduler": {name: n}}) for n in section.max_num_batched_tokens])
    if section.max_num_seqs is not None:
        yield _axis([Choice(f"seqs={n}", {}, {"scheduler": {"max_seqs": n}}) for n in section.max_num_seqs])


def _axis(choices: list[Choice]) -> tuple[Choice, ...]:
    """An axis of one value needs no words."""
    return tuple(choices) if len(choices) > 1 else tuple(choice._replace(words="") for choice in choices)


def _speculation(experiment: Experiment, one: str | SpeculationSection) -> Choice:
    if isinstance(one, str):
        off = any(group.speculation is not None for group in experiment.groups)
        return Choice("no speculation", {}, {"speculation": {"tokens": 0}} if off else {})
    stated = one.model_dump(mode="json", exclude_unset=True)
    return Choice(f"{stated.get('method', 'speculation')}-{stated.get('tokens', '')}".rstrip("-"), {}, {"speculation": stated})


def _autoscaler(one: str | Mapping[str, Any]) -> Choice:
    if isinstance(one, str):
        return Choice("", {"cluster.controllers": []}, {})
    if "policy" not in one:
        raise ConfigError(f"plan.autoscalers: the key policy is required and missing. Allowed: {', '.join(registry.controller_names())}")
    policy = str(one["policy"])
    if policy not in registry.controller_names():
        raise ConfigError(f"plan.autoscalers: unknown controller '{policy[:60]}'{nearest(policy, registry.controller_names())}")
    default = getattr(registry.controller_class(policy).Params.model_fields.get("min_instances"), "default", 0)
    told = [str(value) for key, value in one.items() if key != "policy"]
    return Choice(" ".join([policy, *told]), {"cluster.controllers": [dict(one)]}, {}, int(one.get("min_instances", default)))


def _budget_parameter(experiment: Experiment) -> str:
    policy = experiment.groups[0].policy
    known = registry.scheduler_class(policy).Params.model_fields
    for name in _BUDGET_PARAMETERS:
        if name in known:
            return name
    raise ConfigError(f"plan.max_num_batched_tokens: policy {policy} has no token budget")


def _merged(group: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One level deep: sections of a group are merged by key."""
    merged = dict(group)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
