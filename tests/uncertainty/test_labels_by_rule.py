"""A run's label follows from what is known of it, and widens its intervals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simserve.model import generic_family
from simserve.uncertainty import residuals
from simserve.uncertainty.belief import LABELS, Belief, from_summary
from simserve.uncertainty.beyond import Beyond, Sizes, beyond_kernels, beyond_runs
from simserve.uncertainty.facts import Facts
from simserve.uncertainty.kernels import StepSpread
from simserve.uncertainty.kinds import kind_of
from simserve.uncertainty.label import NO_READER, Known, known_of, label_of, least_sure
from simserve.uncertainty.learning import Spread
from simserve.uncertainty.run import relative_of, waiting_words
from simserve.uncertainty.sensitivity import Sensitivity

KNOWN = Known("vllm-v1", "h100-sxm-80gb", "llama-3.1-8b", 0, True, "44 held-out runs", 0.02)
FACTS = Facts(Sensitivity(), StepSpread(0.04, 0.1, 0.0), StepSpread(0.03, 0.1, 0.0))


def test_each_label_has_its_rule() -> None:
    assert label_of(KNOWN)[0] == "fitted"
    assert label_of(KNOWN._replace(runs=20))[0] == "measured"
    assert label_of(KNOWN._replace(validated=False))[0] == "estimate"
    assert label_of(KNOWN._replace(unmeasured=0.3))[0] == "estimate"
    assert label_of(KNOWN._replace(beyond=(Beyond(2.0, "steps of 16,000 tokens"),)))[0] == "extrapolated"
    assert label_of(KNOWN._replace(lengths={"prompt": 40_000.0}, seen={"prompt": 10_000.0}))[0] == "extrapolated"


def test_runs_of_an_engine_that_did_not_hold_elsewhere_still_count_where_they_are() -> None:
    assert label_of(KNOWN._replace(runs=20, validated=False))[0] == "measured"
    assert label_of(KNOWN._replace(runs=20, validated=False, beyond=(Beyond(2.0, "far"),)))[0] == "extrapolated"


def test_runs_with_weights_of_another_format_do_not_count_and_are_named() -> None:
    profile = {"name": "vllm-v1", "validated": True, "held_out": "44 runs"}
    own = {"engine_profile": profile, "hardware": "h100-sxm-80gb", "model": "llama-3.1-8b", "quantisation": "fp8"}
    found = known_of({**own, "measured_runs": {"validated": False, "other_weights": ["none", "mxfp4"]}}, 0.0, (), {}, lambda *_: {})
    label, (reason, *_) = label_of(found)
    assert label == "fitted" and "llama-3.1-8b on h100-sxm-80gb with weights in fp8 (measured: 16 bits, mxfp4)" in reason


def test_the_first_reason_says_what_decides_and_by_how_far() -> None:
    _, reasons = label_of(KNOWN._replace(lengths={"prompt": 40_000.0}, seen={"prompt": 10_000.0}))
    assert reasons[0] == "prompts of 40,000 tokens on average, measured runs have up to 10,000"
    assert "30 % of a step's time" in label_of(KNOWN._replace(unmeasured=0.3))[1][0]
    assert label_of(KNOWN._replace(taken="taken for llama-3.1-8b"))[1][-1] == "the model is taken for llama-3.1-8b"
    assert Belief("fitted", ("because",), waiting="the queue").line == "fitted, because; the queue"


def test_the_line_of_an_estimate_also_says_that_lengths_or_the_architecture_are_unknown() -> None:
    long = KNOWN._replace(validated=False, lengths={"prompt": 200_000.0}, seen={"prompt": 10_000.0})
    assert "not validated" in label_of(long)[1][0] and "prompts of 200,000 tokens" in label_of(long)[1][0]
    guessed = "no reader for model_type 'new': taken for a plain decoder"
    for known in (KNOWN, KNOWN._replace(validated=False), long._replace(validated=True)):
        assert guessed in label_of(known._replace(guessed=guessed))[1][0]


def test_the_words_of_results_become_reasons() -> None:
    taken = "The model 'x/Llama-3.1-8B-W8A8' is taken as the bundled llama-3.1-8b (llama, 8.0 billion parameters)."
    cost = {"model_taken": taken, "unvalidated": ["gemm", f"{NO_READER} 'new': taken for a plain decoder (RMSNorm)"]}
    assert NO_READER == generic_family.NO_READER
    known = known_of(cost, 0.0, (), {}, lambda *_: {})
    assert known.taken == "taken as the bundled llama-3.1-8b (llama, 8.0 billion parameters)"
    assert known.guessed == "no reader for model_type 'new': taken for a plain decoder"
    one = label_of(KNOWN._replace(runs=1))[1][0]
    assert one.startswith("1 measured run of") and label_of(KNOWN._replace(runs=2))[1][0].startswith("2 measured runs of")


def test_a_run_of_several_kinds_of_instances_is_as_sure_as_the_least_sure() -> None:
    assert least_sure([label_of(KNOWN._replace(runs=9)), label_of(KNOWN._replace(validated=False)), label_of(KNOWN)])[0] == "estimate"


class _Cost:
    """A cost model whose attention was measured up to 64 sequences and 8,000 tokens."""

    def reach(self) -> dict[str, dict[str, float]]:
        return {"attention_decode bf16, somewhere": {"log_batch": 64.0, "log_context": 8000.0}, "gemm bf16, x": {}}

    def describe(self) -> dict[str, object]:
        return {"parallel": {"dp": 2}}


def test_what_lies_beyond_the_tables_is_named_with_its_size() -> None:
    assert beyond_kernels(_Cost(), Sizes(batch=100.0, context=7000.0)) == [], "each of two replicas has half of the batch"
    (found,) = beyond_kernels(_Cost(), Sizes(batch=256.0, context=7000.0))
    assert found == Beyond(2.0, "128 sequences decode at once, attention_decode bf16 was measured up to 64")
    assert [one.factor for one in beyond_kernels(_Cost(), Sizes(batch=256.0, context=32_000.0))] == [4.0, 2.0], "the furthest first"
    assert beyond_runs({"prompt": 5.0}, {}) == []


def test_intervals_widen_with_the_label_and_with_the_sensitivity(monkeypatch: pytest.MonkeyPatch) -> None:
    spreads = {("first", "dense", label): Spread(0.1 * (k + 1), 0.2 * (k + 1), 9, 9) for k, label in enumerate(LABELS)}
    monkeypatch.setattr(residuals, "load", lambda: residuals.Residuals({**spreads, ("first", "dense"): Spread(0.1, 0.1, 9, 9)}, {}))
    ends = [relative_of(kind_of("ttft.mean", FACTS), ("dense", label, "vllm")) for label in LABELS]
    assert [end[0] for end in ends if end] == sorted((end[0] for end in ends if end), reverse=True)
    assert [end[1] for end in ends if end] == sorted(end[1] for end in ends if end)
    busy = replace(FACTS, sensitivity=Sensitivity(ttft=4.0, load=0.95))
    low, high = relative_of(kind_of("ttft.mean", busy), ("dense", "fitted", "vllm")) or (0.0, 0.0)
    calm = relative_of(kind_of("ttft.mean", FACTS), ("dense", "fitted", "vllm")) or (0.0, 0.0)
    assert high == pytest.approx(calm[1] ** 4) and low == pytest.approx(calm[0] ** 4)


def test_rates_that_the_load_decides_have_no_width_and_tails_are_no_surer_than_means(monkeypatch: pytest.MonkeyPatch) -> None:
    spreads = {
        ("rate", "dense"): Spread(0.2, 0.2, 9, 9),
        ("next", "dense"): Spread(0.2, 0.3, 9, 9),
        ("next tail", "dense"): Spread(0.1, 0.4, 9, 9),
    }
    monkeypatch.setattr(residuals, "load", lambda: residuals.Residuals(spreads, {}))
    given = replace(FACTS, sensitivity=Sensitivity(rate=0.0, load=0.3))
    assert relative_of(kind_of("throughput.output_tokens", given), ("dense", "fitted", "vllm")) == (1.0, 1.0)
    assert residuals.load().spread(("next tail", "dense", "fitted", "vllm")) == Spread(0.2, 0.4, 9, 9)
    assert residuals.load().spread(("whole", "dense", "fitted", "vllm")) == Spread(0.2, 0.3, 9, 9), "as their further tokens"
    assert kind_of("attainment", FACTS) is None


def test_near_capacity_the_run_says_what_waiting_cannot_be_predicted_better_than() -> None:
    def words(load: float | None) -> str:
        return waiting_words(replace(FACTS, sensitivity=Sensitivity(load=load)), {"ttft.mean": (0.5, 3.0)})

    assert words(0.95) == "the load is within 5 % of capacity, first tokens are not predictable better than within a factor of 3.0"
    assert words(1.25) == "the load is 25 % above capacity, first tokens are not predictable better than within a factor of 3.0"
    assert words(0.5) == words(None) == words(50.0) == ""


def test_a_belief_goes_through_a_summary_and_back() -> None:
    belief = Belief("fitted", ("a", "b"), {"tpot.mean": (1.0, 2.0)}, {"tpot.mean": (0.5, 1.5)}, {"tpot.mean": ("next", 1.2)}, 0.7, "w", 0.1)
    assert from_summary({"uncertainty": belief.as_dict()}) == belief and from_summary({}) is None
