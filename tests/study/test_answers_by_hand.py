"""Answers of studies by hand: what a capacity is of several searches, when a claim is reproduced, what a probe asks of the cost model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simserve.config.claims import ClaimSection
from simserve.config.probes import ProbeSection
from simserve.contracts import Step
from simserve.errors import ConfigError, ModelError
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.result import CapacityResult
from simserve.study.claims import record
from simserve.study.claims.check import Outcome, _highest, _meant, judge
from simserve.study.predicate import parse
from simserve.study.probes import Figures, _Asked
from simserve.study.statistics import mean_interval

# -- capacities -------------------------------------------------------------------------------------------------------------------------


def seen(seed: int, rate: float, ttft_s: float, stable: bool = True, **values: float | None) -> Probe:
    reasons = ("ttft.p99 <= 1 (found 2)",) if ttft_s > 1 else () if stable else ("the queue grew through the run",)
    return Probe(seed, rate, not reasons, stable, reasons, {"ttft_p99_s": ttft_s, **values})


def capacity(probes: list[Probe], *replicates: Replicate, key: str = "workload.arrivals.rate_per_s") -> CapacityResult:
    return CapacityResult("demo", parse("ttft.p99 <= 1"), key, 0.05, replicates, tuple(probes))


TWO = [
    seen(0, 4.0, 0.5, arrivals_per_s=40.0),
    seen(0, 5.0, 2.0),
    seen(1, 6.0, 0.5, arrivals_per_s=80.0),
    seen(1, 6.6, 2.0),
    seen(1, 1.0, 0.1, arrivals_per_s=9.0),
]
FOUND = Replicate(0, "found", 4.0, 5.0), Replicate(1, "found", 6.0, 6.6)


def test_the_capacity_is_the_mean_of_what_held_for_each_seed() -> None:
    result = capacity(TWO, *FOUND)
    assert (result.outcome, result.rate, result.requests_per_s) == ("found", 5.0, 60.0)
    assert result.interval == mean_interval([4.0, 6.0])[1:] == pytest.approx((5 - 12.706, 5 + 12.706), abs=1e-3)
    assert result.resolution == pytest.approx(0.25), "the coarser of 5 / 4 and 6.6 / 6"
    assert result.edge == TWO[1] and result.limit == "ttft.p99 <= 1 (found 2)" and not result.saturates
    assert result.message == (
        "Capacity 5 requests/s (95 % confidence 0 to 17.71, 2 seeds): the highest load seen at which 'ttft.p99 <= 1' holds, within 25 %. "
        "It fails first at 5 (seed 0): ttft.p99 <= 1 (found 2)."
    )


def test_of_one_seed_there_is_no_interval() -> None:
    result = capacity(TWO[:2], FOUND[0])
    assert result.rate == 4.0 and result.interval is None
    assert result.message == (
        "Capacity 4 requests/s: the highest load seen at which 'ttft.p99 <= 1' holds, within 25 %. It fails at 5: ttft.p99 <= 1 (found 2)."
    )


def test_it_saturates_where_the_queue_alone_fails_for_every_seed() -> None:
    queue = [seen(0, 4.0, 0.5), seen(0, 5.0, 0.5, stable=False), seen(1, 6.0, 0.5), seen(1, 6.6, 0.9, stable=False)]
    assert capacity(queue, *FOUND).saturates
    assert "It saturates first at 5 (seed 0): the queue grows" in capacity(queue, *FOUND).message
    assert not capacity([*queue[:3], seen(1, 6.6, 2.0)], *FOUND).saturates


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [(("found", "never"), "never"), (("always", "found"), "always"), (("always", "never"), "never"), (("found", "found"), "found")],
)
def test_one_search_without_an_answer_leaves_none(outcomes: tuple[Any, Any], outcome: str) -> None:
    replicates = [Replicate(seed, each, 4.0 if each != "never" else None, None) for seed, each in enumerate(outcomes)]
    result = capacity(TWO, *replicates)
    assert result.outcome == outcome and (result.rate is None) == (outcome != "found")
    assert (result.interval is None) == (outcome != "found") and (result.requests_per_s is None) == (outcome != "found")


def test_never_and_always_say_for_how_many_seeds_and_where() -> None:
    never = capacity([seen(0, 1.0, 2.0), seen(0, 0.5, 2.0), seen(1, 6.0, 0.5)], Replicate(0, "never", None, 0.5), FOUND[1])
    assert never.message == (
        "Never holds for 1 of 2 seeds: 'ttft.p99 <= 1' fails even at 0.5 requests/s, the lightest load that was tried: "
        "ttft.p99 <= 1 (found 2)."
    )
    always = capacity([seen(0, 1.0, 0.5), seen(0, 64.0, 0.5)], Replicate(0, "always", 64.0, None))
    assert always.message.startswith("Always holds: 'ttft.p99 <= 1' holds up to 64 requests/s, the heaviest load that was tried.")


def test_the_table_of_probes_rises_with_the_load() -> None:
    frame = capacity(TWO, *FOUND).frame
    assert frame["rate"].tolist() == [1.0, 4.0, 5.0, 6.0, 6.6] and frame["seed"].tolist() == [1, 0, 0, 1, 1]
    assert frame["holds"].tolist() == [True, True, False, True, False] and frame["reasons"].tolist()[2] == "ttft.p99 <= 1 (found 2)"
    equal = capacity([seen(1, 4.0, 0.5), seen(0, 4.0, 0.5)], *FOUND).frame
    assert equal["seed"].tolist() == [0, 1], "of one load by seed"
    written = capacity(TWO, *FOUND).as_dict()
    assert (written["rate"], written["outcome"], written["unit"], written["resolution"]) == (5.0, "found", "requests/s", 0.25)
    assert [probe["rate"] for probe in written["probes"]] == [1.0, 4.0, 5.0, 6.0, 6.6] and written["replicates"][1]["low"] == 6.0


def test_an_interval_narrower_than_the_search_resolves_is_remarked() -> None:
    said = "the seeds differ by less than the search resolves"
    near = [seen(0, 4.0, 0.5), seen(0, 5.0, 2.0), seen(1, 4.001, 0.5), seen(1, 5.0, 2.0)]
    narrow = capacity(near, Replicate(0, "found", 4.0, 5.0), Replicate(1, "found", 4.001, 5.0))
    assert any(note.startswith(said) for note in narrow.notes)
    assert not any(note.startswith(said) for note in capacity(TWO, *FOUND).notes)


# -- claims -----------------------------------------------------------------------------------------------------------------------------


def judged(values: dict[str, float | None], **claim: Any) -> Outcome:
    probed = {name: Figures(name, {"speed": value}, {}) for name, value in values.items()}
    section = ClaimSection(figure="probes.speed", **claim)
    return judge(section, {name: _highest(name, section.figure, {}, probed) for name in section.of})


@pytest.mark.parametrize(("ours", "reproduced"), [(8.0, True), (7.99, False), (12.0, True), (12.01, False), (None, False)])
def test_a_figure_is_reproduced_inside_its_band(ours: float | None, reproduced: bool) -> None:
    outcome = judged({"a": ours}, of=("a",), published=10.0, within=0.2, note="a note")
    assert outcome == Outcome("probes.speed of a", 10.0, ours, 8.0, 12.0, reproduced, {"a": ours}, "a note")


def test_a_ratio_is_the_first_over_the_second() -> None:
    outcome = judged({"a": 3.0, "b": 2.0}, of=("a", "b"), at_least=1.5)
    assert (outcome.claim, outcome.ours, outcome.low, outcome.high, outcome.reproduced) == ("probes.speed, a / b", 1.5, 1.5, None, True)
    assert judged({"a": 3.0, "b": 0.0}, of=("a", "b"), at_least=1.5).ours is None
    assert judged({"a": None, "b": 2.0}, of=("a", "b"), at_least=1.5).ours is None
    assert judged({"a": 0.0, "b": 2.0}, of=("a", "b"), at_most=1.5).ours == 0.0


@pytest.mark.parametrize(
    ("figures", "rises"),
    [((1.0, 2.0, 3.0), True), ((1.0, 1.0, 3.0), False), ((1.0, 3.0, 2.0), False), ((1.0, None, 3.0), False), ((None, 2.0, 3.0), False)],
)
def test_an_order_rises_at_every_place(figures: tuple[float | None, ...], rises: bool) -> None:
    outcome = judged(dict(zip("abc", figures, strict=True)), of=("a", "b", "c"), order=True)
    assert outcome.reproduced is rises and outcome.claim == "probes.speed rises: a, b, c" and outcome.ours is None


def test_a_star_stands_for_the_highest() -> None:
    values = {"tp1": 3.0, "tp2": 9.0, "tp4": None, "pp2": 99.0}
    assert judged(values, of=("tp*",), at_least=1.0).ours == 9.0
    assert _meant("tp*", values) == ["tp1", "tp2", "tp4"] and _meant("tp1", values) == ["tp1"] and _meant("*", values) == list(values)
    assert _meant("tp", values) == [] and judged({"x1": None}, of=("x*",), at_least=1.0).ours is None


def test_a_record_is_read_back_and_one_of_another_kind_is_refused(tmp_path: Path) -> None:
    outcome = Outcome("ttft of a", 1.0, 1.1, None, 1.2, True, {"a": 1.1, "b": None}, "")
    other = Outcome("ttft of b", 1.0, 1.5, None, 1.2, False, {"b": 1.5}, "")
    moved = record.Sensitivity("seed", 1.0, None, {"ttft of a": 1.0}, {"ttft of a": True})
    one = record.Recorded({"title": "T"}, (outcome, other), (moved,), "0.1", {"f/x": "12"})
    path = record.write({"b": one, "a": one}, tmp_path / "claims.json")
    assert record.read(path) == {"a": one, "b": one}
    assert list(json.loads(path.read_text())["experiments"]) == ["a", "b"]
    assert record.read(tmp_path / "none.json") == {}
    for text, words in (("{", "not a record of claims"), ('{"schema_version": 1}', "schema_version 1; this simserve reads version 2")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            record.read(path)


def test_six_digits_of_a_figure_are_kept() -> None:
    assert record._rounded({"a": 1.23456789, "b": [1.23456789], "c": 7, "d": {"e": 123456.789}}) == {
        "a": 1.23457, "b": [1.23456789], "c": 7, "d": {"e": 123457.0},
    }  # fmt: skip


# -- probes -----------------------------------------------------------------------------------------------------------------------------


class Priced:
    """1 s a prompt and 0.5 s of a step, decode steps of 0.25 s a request; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Step] = []

    def step_time(self, step: Step) -> float:
        self.asked.append(step)
        return 0.5 + len(step.slices)

    def decode_times(self, step: Step, steps: int) -> list[float]:
        self.asked.append(step)
        return [0.25 * step.decodes] * steps

    def breakdown(self, step: Step) -> dict[str, float]:
        self.asked.append(step)
        return {"gemm": 0.125, "host": 0.5}


def machine(memory_tokens: int = 1000, slots: int = 8, step_tokens: int = 0) -> Any:
    """`memory_tokens` tokens of KV less those of a step; weights of 500 bytes on two devices, 10 bytes of KV a token."""

    def fits(room: int, tokens: int) -> int:
        if room <= 0:
            raise ModelError("no room")
        return room // tokens

    of = SimpleNamespace(
        cost=Priced(), slots=slots, step_tokens=step_tokens, sequences_that_fit=fits,
        capacity=lambda step, max_seqs: memory_tokens - step,
    )  # fmt: skip
    asked = _Asked(of)  # type: ignore[arg-type]
    vars(asked).update(_kv_bytes_per_token=10.0, _weight_bytes=500)
    return asked


def ask(of: Any, measure: str, **probe: Any) -> Any:
    return of.answer(ProbeSection(measure=measure, **probe))  # type: ignore[arg-type]


def test_a_decode_step_attends_every_context_and_the_token_itself() -> None:
    of = machine()
    assert ask(of, "decode_s", requests=3, context_tokens=100) == 0.5
    (step,) = [each for each in of.deployed.cost.asked if each.decodes][:1]
    assert (step.decodes, step.context_tokens, step.longest_tokens) == (3, 303, 101)
    assert ask(of, "decode_s", context_tokens=100, part="gemm") == 0.125
    with pytest.raises(ConfigError, match="the step has no part 'gem'; did you mean 'gemm'"):
        ask(of, "decode_s", part="gem")


def test_a_prefill_step_computes_every_prompt_after_its_context() -> None:
    of = machine()
    assert ask(of, "prefill_s", requests=2, prompt_tokens=50, context_tokens=100) == 2.5
    assert [(piece.new_tokens, piece.context_tokens) for piece in of.deployed.cost.asked[-1].slices] == [(50, 100)] * 2
    assert ask(of, "prefill_s", prompt_tokens=50) == 1.5, "one unless stated"


def test_memory_is_weights_and_the_cache_of_the_requests() -> None:
    of = machine()
    assert ask(of, "weight_bytes") == 500.0 and ask(of, "kv_bytes_per_token") == 10.0
    assert ask(of, "memory_bytes", context_tokens=100) == 1500.0 and ask(of, "memory_bytes", requests=3, context_tokens=100) == 3500.0


@pytest.mark.parametrize(("memory_tokens", "fit"), [(999, 7), (900, 7), (899, 6), (300, 1), (299, 0), (200, 0), (50, 0), (9999, 8)])
def test_requests_fit_beside_a_step_of_the_policys_budget(memory_tokens: int, fit: int) -> None:
    """A step of 200 tokens, requests of 90 + 10 tokens, most 8."""
    of = machine(memory_tokens, step_tokens=200)
    assert ask(of, "requests_that_fit", prompt_tokens=90, output_tokens=10) == fit
    assert ask(of, "fits", prompt_tokens=90, output_tokens=10) == float(fit > 0)


@pytest.mark.parametrize("memory_tokens", [0, 189, 190, 379, 380, 760, 1519, 1520, 5000])
@pytest.mark.parametrize("slots", [1, 7, 8])
def test_prompts_in_one_step_take_its_activations_too(memory_tokens: int, slots: int) -> None:
    """Each request takes 90 tokens of the step and 100 of the cache."""
    fit = ask(machine(memory_tokens, slots), "requests_that_fit", prompt_tokens=90, output_tokens=10, prefill_together=True)
    assert fit == max((b for b in range(1, slots + 1) if (memory_tokens - 90 * b) // 100 >= b), default=0)


def test_a_static_batch_prefills_in_steps_of_the_budget_and_decodes_together() -> None:
    of = machine(step_tokens=200)
    # 5 prompts of 90 in steps of 2: 2.5 + 2.5 + 1.5 s; 3 decode steps of 5 requests: 1.25 s each. 5 x 4 tokens in 10.25 s.
    assert ask(of, "batch_tokens_per_s", requests=5, prompt_tokens=90, output_tokens=4) == pytest.approx(20 / 10.25)
    assert [len(step.slices) for step in of.deployed.cost.asked] == [2, 2, 1, 0]
    last = of.deployed.cost.asked[-1]
    assert (last.decodes, last.context_tokens, last.longest_tokens) == (5, 455, 91)
    together = machine(step_tokens=200)
    # All 5 in one step: 5.5 s
    assert ask(together, "batch_tokens_per_s", requests=5, prompt_tokens=90, output_tokens=4, prefill_together=True) == 20 / 9.25
    assert ask(machine(step_tokens=50), "batch_tokens_per_s", requests=2, prompt_tokens=90, output_tokens=1) == 2 / 3.0, "one a step"


def test_a_batch_without_a_number_is_as_large_as_fits() -> None:
    of = machine(memory_tokens=500, step_tokens=100)
    assert ask(of, "batch_tokens_per_s", prompt_tokens=90, output_tokens=10) == pytest.approx(40 / (4 * 1.5 + 9 * 1.0))
    assert ask(machine(memory_tokens=100, step_tokens=100), "batch_tokens_per_s", prompt_tokens=90, output_tokens=10) is None


def test_without_a_budget_a_step_is_8192_tokens() -> None:
    assert ask(machine(memory_tokens=8292), "fits", prompt_tokens=90, output_tokens=10) == 1.0
    assert ask(machine(memory_tokens=8291), "fits", prompt_tokens=90, output_tokens=10) == 0.0
    assert math.isfinite(ask(machine(memory_tokens=8292), "batch_tokens_per_s", prompt_tokens=90, output_tokens=10))
