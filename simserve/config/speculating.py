"""What the engine and the costs are told of an instance group's speculation: the draft, and who gets how many of its tokens accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simserve.config.engine_profile import EngineProfile
from simserve.config.speculation import NUMBER_COLUMNS, conditional, schedule
from simserve.config.speculation_section import AcceptanceSection, SpeculationSection
from simserve.cost.draft import Draft
from simserve.engine import InstanceSpec
from simserve.errors import ConfigError, nearest
from simserve.model import load_model
from simserve.speculation import ByNumber, ByRow, Same, Speculated
from simserve.speculation.acceptance import Conditional, RatesOfRows, of_length
from simserve.workload.columns import Labels
from simserve.workload.requests import RequestTable

UNSTATED: Conditional = (math.nan,)


def draft_of(section: SpeculationSection, base_dir: Path) -> Draft:
    """What drafts, for the costs and the memory. Raises ModelError for an unknown model."""
    assert section.method is not None and section.tokens is not None
    model = None if section.draft is None else load_model(section.draft, base_dir=base_dir)
    return Draft(section.method, section.tokens, section.top_k, section.verify_tokens, model)


def speculating(
    instances: Sequence[InstanceSpec], sections: Sequence[SpeculationSection | None], engine: EngineProfile, table: RequestTable, seed: int
) -> tuple[InstanceSpec, ...]:
    """The instances, those of a group that speculates (a section each) told how. Raises ConfigError as `speculated`."""
    made: dict[int, Speculated] = {}
    out = []
    for spec, section in zip(instances, sections, strict=True):
        if section is not None:
            if id(section) not in made:
                made[id(section)] = speculated(section, engine.speculation.rejected_kv, table, seed)
            spec = replace(spec, speculation=made[id(section)])
        out.append(spec)
    return tuple(out)


def speculated(section: SpeculationSection, rejected_kv: str, table: RequestTable, seed: int) -> Speculated:
    """How the requests of `table` speculate. Raises ConfigError for requests whose acceptance the section does not tell."""
    acceptance = section.acceptance
    assert section.tokens is not None and acceptance is not None
    return Speculated(
        schedule(section),
        _rates(acceptance, section.tokens, table),
        seed,
        nodes=None if section.verify_tokens is None else section.verify_tokens - 1,
        draft_passes=section.method != "ngram",
        hit=acceptance.hit,
        rejected_kv=rejected_kv,
        outputs=table.output_tokens,
    )


def _rates(acceptance: AcceptanceSection, tokens: int, table: RequestTable) -> RatesOfRows:
    otherwise = None if acceptance.otherwise is None else conditional(acceptance.otherwise, tokens)
    if acceptance.by is not None:
        return _by_name(acceptance, tokens, otherwise, table)
    if acceptance.column is not None:
        return _by_number(acceptance.column, tokens, otherwise, table)
    return Same(conditional(acceptance, tokens))


def _by_name(acceptance: AcceptanceSection, tokens: int, otherwise: Conditional | None, table: RequestTable) -> RatesOfRows:
    assert acceptance.by is not None
    where = f"speculation.acceptance.of: column '{acceptance.by}' of the requests"
    labels = table.column(acceptance.by)
    used: set[str] = set()
    codes = np.zeros(len(table), dtype=np.int64)
    names: tuple[str, ...] = ()
    if isinstance(labels, Labels):
        names, codes = labels.names, labels.codes.astype(np.int64)
        used = {names[code] for code in np.unique(codes)}
    known = {name: conditional(part, tokens) for name, part in acceptance.of.items()}
    unknown = sorted(used - known.keys())
    if otherwise is None and (unknown or not names):
        if not names:
            raise ConfigError(f"{where} is not stated by any; give the trace such a column, or `otherwise`")
        raise ConfigError(f"{where} has '{unknown[0]}', whose acceptance is not given{nearest(unknown[0], known)}; give it, or `otherwise`")
    absent = sorted(known.keys() - used)
    if absent and names:
        raise ConfigError(f"{where} has no '{absent[0]}'{nearest(absent[0], used)}")
    kinds = [known.get(name, otherwise or UNSTATED) for name in names]
    last = otherwise if otherwise is not None else known[next(iter(known))]
    return ByRow(codes if names else np.zeros(0, dtype=np.int64), (*kinds, last))


def _by_number(name: str, tokens: int, otherwise: Conditional | None, table: RequestTable) -> RatesOfRows:
    where = f"speculation.acceptance.column: column '{name}' of the requests"
    values = table.column(name)
    if values is None and otherwise is None:
        raise ConfigError(f"{where} is not stated by any; give the trace such a column, or `otherwise`")
    rates = np.full(len(table), math.nan) if values is None else np.array(values, dtype=np.float64)
    missing = np.isnan(rates)
    if otherwise is None and bool(missing.any()):
        raise ConfigError(f"{where} is missing in row {int(np.argmax(missing))}; give it, or `otherwise`")
    if NUMBER_COLUMNS[name] == "length":
        too_long = rates > tokens + 1
        if bool(too_long.any()):
            row = int(np.argmax(too_long))
            raise ConfigError(f"{where} is {rates[row]:g} in row {row}: a step of {tokens} drafted tokens emits 1 to {tokens + 1}")
        lengths, places = np.unique(rates[~missing], return_inverse=True)
        rates[~missing] = np.array([of_length(float(length), tokens)[0] for length in lengths])[places]
    return ByNumber(rates, tokens, otherwise if otherwise is not None else (float(np.nanmean(rates)),) * tokens)
