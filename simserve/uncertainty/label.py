"""The label of a run: a rule over what is known of its engine, device, model and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simserve.uncertainty.belief import LABELS, Label
from simserve.uncertainty.beyond import Beyond, beyond_runs

NO_READER = "no reader for model_type"
"""How the assumption of `simserve.model` begins that an unknown architecture is a plain decoder."""

UNMEASURED_FRACTION = 0.1
"""Fraction of a step's time that operators without any measurement may take. An estimate can be off by a factor of two
(docs/cost-models.md), so a tenth of the time can move a step by a tenth, which is what fitted steps are off by anyway."""


class Known(NamedTuple):
    """What is known of a group of equal instances.

    engine, device, model  names, for the reasons
    runs        measured runs of the three together: how many rows, 0 = none
    validated   whether the engine's overheads held on runs kept from them; `because` says how they did
    unmeasured  fraction of its steps' time of operators that nothing measured
    beyond      where it leaves the kernels' tables
    lengths     mean `prompt` and `output` tokens of its requests
    seen        the largest of these among the measured runs of the engine on the device; empty = there are none
    taken       what the model's name was taken for, "" = it is bundled under that name
    guessed     what was taken of a configuration of an unknown architecture, "" = it is known
    otherwise   where such runs were measured with weights of other formats alone, these formats and this one
    """

    engine: str
    device: str
    model: str
    runs: int
    validated: bool
    because: str
    unmeasured: float
    beyond: Sequence[Beyond] = ()
    lengths: Mapping[str, float] = {}
    seen: Mapping[str, float] = {}
    taken: str = ""
    guessed: str = ""
    otherwise: str = ""


def label_of(known: Known) -> tuple[Label, tuple[str, ...]]:
    """The label, and why, the reason that decides first."""
    three = f"{known.engine} with {known.model} on {known.device}"
    reasons = [f"the model is {known.taken}"] if known.taken else []
    guess = [known.guessed] if known.guessed else []
    base: Label
    outside = [one.words for one in (*known.beyond, *beyond_runs(known.lengths, known.seen))]
    if known.runs:
        base, why = "measured", f"{known.runs:,} measured run{'s' if known.runs != 1 else ''} of {three}"
    elif known.unmeasured > UNMEASURED_FRACTION:
        share = f"{100 * known.unmeasured:.0f} % of a step's time"
        base, why = "estimate", f"operators that nothing measured on {known.device} take {share}"
    elif not known.validated:
        base, why = "estimate", f"the overheads of {known.engine} are not validated ({known.because})"
    else:
        base, why = (
            "fitted",
            f"no measured run of {three}{known.otherwise}; its kernels were measured, {known.engine} was learned on other runs",
        )
    if base == "estimate":
        return "estimate", ("; ".join([why, *guess, *outside[:1]]), *outside[1:], *reasons)
    if outside:
        return "extrapolated", ("; ".join([outside[0], *guess]), *outside[1:], why, *reasons)
    return base, ("; ".join([why, *guess]), *reasons)


def least_sure(found: Sequence[tuple[Label, tuple[str, ...]]]) -> tuple[Label, tuple[str, ...]]:
    """The label of a run of several kinds of instances: of the least believable."""
    return max(found, key=lambda one: LABELS.index(one[0]))


def known_of(cost: Mapping[str, Any], unmeasured: float, beyond: Sequence[Beyond], lengths: Mapping[str, float], seen: Any) -> Known:
    """From an instance's description (`InstanceInfo.cost`) as results have it.

    seen  (engine profile, device) -> lengths of measured runs
    """
    profile = cost.get("engine_profile") or {}
    runs = cost.get("measured_runs") or {}
    engine = str(profile.get("name", "the engine")).removeprefix("host overheads of engine profile ")
    device, model = str(cost.get("hardware", "the device")), str(cost.get("model", "the model"))
    return Known(
        engine,
        device,
        model,
        int(runs.get("rows", 0)) if runs.get("validated") else 0,
        bool(profile.get("validated")),
        str(profile.get("held_out", "never compared")),
        unmeasured,
        beyond,
        lengths,
        seen(engine, device),
        _taken(str(cost.get("model_taken", ""))),
        next((words.partition(" (")[0] for words in cost.get("unvalidated", ()) if words.startswith(NO_READER)), ""),
        _otherwise(str(cost.get("quantisation", "")), runs.get("other_weights", ())),
    )


def _taken(sentence: str) -> str:
    """`taken as the bundled llama-3.1-8b (...)` of the sentence of a model."""
    _, said, rest = sentence.rpartition(" is taken as ")
    return f"taken as {rest.removesuffix('.')}" if said else sentence


def _otherwise(own: str, measured: Sequence[str]) -> str:
    """` with weights in fp8 (measured: 16 bits)`; nothing where none were measured."""
    told = ["16 bits" if name == "none" else name for name in (own, *measured)]
    return f" with weights in {told[0]} (measured: {', '.join(told[1:])})" if measured else ""
