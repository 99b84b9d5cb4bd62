"""docs/paper-costs.md: its tables are the program's, and each figure of its prose is computed here."""

from __future__ import annotations

import math
import re

import pytest

import simserve
from tests.docs import paper_costs
from tests.docs.paper_costs import LARGE, QSERVE, asked, outcomes

TEXT = " ".join(paper_costs.PAGE.read_text(encoding="utf-8").split())


def said(pattern: str) -> tuple[float, ...]:
    """The numbers of a sentence that the page must have: one for each (#)."""
    expression = re.escape(pattern).replace(r"\(\#\)", r"([\d.,]*\d)")
    match = re.search(expression.replace(r"\ ", r"\s+"), TEXT)
    assert match is not None, f"the page no longer says: {pattern}"
    return tuple(float(group.replace(",", "")) for group in match.groups())


def test_the_made_sections_are_real() -> None:
    assert paper_costs.page() == paper_costs.PAGE.read_text(encoding="utf-8"), "run: python -m tests.docs.refresh"


@pytest.mark.parametrize("name", paper_costs.NAMES)
def test_the_counts_are_those_of_the_record(name: str) -> None:
    assert re.search(rf"\| `{name}` \|[^|]*\|[^|]*\| {paper_costs.counts()[name]} \|", TEXT)


def speed(model: str, kind: str, **changes: object) -> float:
    return asked("qserve_a100_table", f"{kind}_{model}", *changes.items())["speed"]


def test_qserve_without_scalar_cores_is_further_off() -> None:
    host_ms, least, most = said("and the host alone fitted ((#) ms), the cells are (#) to (#) times the published")
    changes = {"engine.host.per_step_s": host_ms / 1e3, "model.options.attention_scalar_fraction": None}
    of = outcomes("qserve_a100_table")
    ratios = [speed(m, "qserve", **changes) / of[f"probes.speed of qserve_{m}"]["published"] for m in QSERVE]
    assert (least, most) == (pytest.approx(min(ratios), abs=0.006), pytest.approx(max(ratios), abs=0.006))


def test_qserve_fits_its_four_cells_as_well_as_it_says() -> None:
    host_ms, fraction = said("by least squares of log ratios over a grid: (#) ms and (#)")
    spec = simserve.load("qserve_a100_table").spec
    assert spec.engine.host["per_step_s"] == pytest.approx(host_ms / 1e3)
    assert spec.model.options.attention_scalar_fraction == fraction


def test_the_batches_at_which_w8a8_has_the_published_rates() -> None:
    first, second, third, low, high = said("published rates at batches of (#), about (#) and (#), and at (#) to (#) for the 72B model")
    of = outcomes("qserve_a100_table")
    for model, batch, fraction in zip(LARGE[:3], (first, second, third), (0.03, 0.05, 0.03), strict=True):
        rate = speed(model, "w8a8", **{"probes.speed.requests": int(batch)})
        assert rate == pytest.approx(of[f"probes.speed of w8a8_{model}"]["published"], rel=fraction), model
    published = of["probes.speed of w8a8_qwen-72b"]["published"]
    rates = [speed("qwen-72b", "w8a8", **{"probes.speed.requests": int(batch)}) for batch in (low, high)]
    assert rates[0] < published < rates[1]


def test_comet_lies_between_two_baselines() -> None:
    (peaks,) = said("84 % of the depth in int4 and 16 % in int8, peaks alone give (#)")
    assert peaks == pytest.approx(1 / (0.84 / 4 + 0.16 / 2), abs=0.005)  # int4 at four times the bf16 peak, int8 at twice
    of = outcomes("comet_w4a4")
    ours = {name: of[f"probes.speed, comet / {name}"]["ours"] for name in ("w8a8", "w4a16")}
    assert ours["w8a8"] < of["probes.speed, comet / w8a8"]["published"] < ours["w4a16"]
    (fraction,) = said("2.88 implies ((#) of what 16-bit kernels reach)")
    assert fraction == pytest.approx(2.88 / (1 / (0.84 / 4 + 0.16 / 2)), abs=0.002)


def test_sarathis_tile() -> None:
    dear, mistral, published, low, high = said(
        "linear layers of Llama-2-7B and Yi-34B (#) % more expensive and those of Mistral-7B (#) % (published: (#) %, band (#) to (#) %;"
    )
    of = outcomes("sarathi_tile")
    for model, percent in (("llama-2-7b", dear), ("yi-34b", dear), ("mistral-7b", mistral)):
        outcome = of[f"probes.linear, {model}_257 / {model}_256"]
        assert round(100 * (outcome["ours"] - 1)) == percent, model
        assert [round(100 * (outcome[key] - 1)) for key in ("published", "low", "high")] == [published, low, high]


def test_million() -> None:
    exact, four_bit, ratio = said("Bytes are exact ((#) / (#) GB = (#))")
    of = outcomes("million_32k")
    values = of["probes.bytes, keys_16_bit / codes_4_bit"]["values"]
    assert (exact, four_bit) == (round(values["keys_16_bit"] / 1e9, 2), round(values["codes_4_bit"] / 1e9, 2))
    assert ratio == round(exact / four_bit, 2)
    plain, band, handicapped, handicap = said(
        "The step is (#) times faster than our own 16-bit baseline, in the band around (#), and (#) times with the handicap of (#)"
    )
    assert plain == round(of["probes.step, keys_16_bit_as_fast / codes_4_bit"]["ours"], 2)
    assert band == of["probes.step, keys_16_bit / codes_4_bit"]["published"]
    assert handicapped == round(of["probes.step, keys_16_bit / codes_4_bit"]["ours"], 2)
    variant = simserve.load("million_32k").spec.variants
    assert any(str(handicap) in str(change) for change in variant.values()) or str(handicap) in str(
        simserve.load("million_32k").resolved()["model"]
    )


def test_xquant_flops_of_a_saved_byte() -> None:
    mha, gqa, a100, h100 = said(
        "(#) for each byte saved with multi-head attention and (#) with grouped queries; "
        "an A100 does (#) in the time of a byte, an H100 (#)."
    )
    # 4 x input width x key width FLOPs make a token's key and value again; saved are the bytes of both less those kept.
    for said_, inputs, width, kept_bits, elements in ((mha, 4096, 4096, 4.16, 4096), (gqa, 1024, 1024, 2.08, 2 * 1024)):
        saved = 2 * width * 2 - elements * kept_bits / 8
        assert said_ == pytest.approx(4 * inputs * width / saved, rel=0.02)
    from simserve.hardware.profile import load_profile

    for name, per_byte in (("a100-sxm-80gb", a100), ("h100-sxm-80gb", h100)):
        device = load_profile(name).device
        assert per_byte == pytest.approx(device.peak("bf16") / device.hbm_bytes_per_s, abs=0.6)


def test_lserves_step_is_constant_and_crosses_where_it_says() -> None:
    step_ms, host_ms = said("LServe's step is constant ((#) ms, of which (#) ms are the host time fitted for QServe)")
    of = outcomes("lserve_ctx")
    steps = [of[f"probes.decode_{context}, vllm / lserve"]["values"]["lserve"] for context in ("64k", "128k", "256k")]
    assert all(1e3 * step == pytest.approx(step_ms, abs=0.2) for step in steps)
    assert asked("lserve_ctx", "lserve") and simserve.load("qserve_a100_table").spec.engine.host["per_step_s"] == pytest.approx(
        host_ms / 1e3
    )
    (crossing,) = said("the crossing is at (#)K tokens")
    ratio = {}
    for context in (int(crossing * 1e3) - 4_000, int(crossing * 1e3) + 4_000):
        change = ("probes.decode_64k.context_tokens", context)
        ratio[context] = asked("lserve_ctx", "vllm", change)["decode_64k"] / asked("lserve_ctx", "lserve", change)["decode_64k"]
    low, high = ratio.values()
    assert low < 1 < high
    assert math.isclose(low, high, rel_tol=0.1)
