"""A parallel layout as an engine counts it: engines that put attention replicas inside the tensor-parallel ranks count tp x dp as tp."""

from __future__ import annotations

from simserve.config.engine_flags import ALL_RANKS, OF_DP, OF_TP, FlagRule
from simserve.config.schema import ParallelSection
from simserve.deploy.written import Written


def put(found: Written, layout: ParallelSection) -> None:
    """The flags of a layout, and notes on what the engine has no flag for."""
    tp = layout.tp
    inside = next((flag for flag, rule in _rules(found) if rule.inside_tp), None)
    if layout.dp > 1:
        tp = _replicas(found, layout, inside)
    for name, degree in (("tp", tp), ("pp", layout.pp)):
        flag = found.for_key(f"parallel.{name}")
        if flag is not None and (degree > 1 or found.listed.flags[flag].always):
            found.flags[flag] = degree
        elif flag is None and degree > 1:
            found.notes.append(f"parallel.{name} {degree}: no flag of {found.engine} sets it")
    if layout.ep > 1:
        _experts(found, layout)


def _rules(found: Written) -> list[tuple[str, FlagRule]]:
    """Rules of the profile about the layout, in the order of the list, as far as this version has their flags."""
    rules = found.profile.flag_rules
    return [(flag, rules[flag]) for flag in found.listed.flags if flag in rules and found.listed.has(flag, found.version)]


def _replicas(found: Written, layout: ParallelSection, inside: str | None) -> int:
    """Puts the attention replicas; the engine's tp."""
    plain = next(
        (f for f in found.listed.flags if found.profile.flags.get(f) == "parallel.dp" and found.listed.has(f, found.version)), None
    )
    if inside is None:
        if plain is None:
            found.notes.append(f"parallel.dp {layout.dp}: no flag of {found.engine} sets it")
        else:
            found.flags[plain] = layout.dp
        return layout.tp
    values = found.profile.flag_rules[inside].values
    if values.get("true") == OF_TP:
        if layout.tp > 1:
            found.notes.append(f"parallel.dp {layout.dp} with tp {layout.tp}: {inside} of {found.engine} makes each rank a replica (tp 1)")
        found.flags[inside] = True
    elif values.get("true") == OF_DP and plain is not None:
        found.flags |= {plain: layout.dp, inside: True}
    else:
        found.flags[inside] = layout.dp
    return layout.tp * layout.dp


def _experts(found: Written, layout: ParallelSection) -> None:
    flag = found.for_key("parallel.ep")
    if flag is None:
        found.notes.append(f"parallel.ep {layout.ep}: no flag of {found.engine} sets it")
        return
    rule = found.profile.flag_rules.get(flag)
    if rule is None:
        found.flags[flag] = layout.ep
    elif rule.values.get("true") == ALL_RANKS and layout.ep == layout.tp * layout.dp:
        found.flags[flag] = True
    else:
        found.notes.append(
            f"parallel.ep {layout.ep}: {flag} of {found.engine} has no degree of its own, it takes all {layout.tp * layout.dp} ranks"
        )
