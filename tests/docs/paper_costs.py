"""What docs/paper-costs.md shows of the program: tables and figures from the recorded claims, and from probes asked anew."""

from __future__ import annotations

import functools
import json
from typing import Any

from simserve.study.claims import kinds
from simserve.study.claims import record as claims_record
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "paper-costs.md"
NAMES = (
    "qserve_a100_table",
    "comet_w4a4",
    "sarathi_tile",
    "swiftkv_70b",
    "million_32k",
    "xquant_map",
    "lserve_ctx",
    "xy_reorder",
    "xy_padding",
)
QSERVE = {
    "llama-3-8b": "Llama-3-8B (256), fitted",
    "llama-2-7b": "Llama-2-7B (190)",
    "mistral-7b": "Mistral-7B (256)",
    "llama-2-13b": "Llama-2-13B (128)",
    "llama-30b": "Llama-30B (64)",
    "yi-34b": "Yi-34B (196)",
    "llama-2-70b": "Llama-2-70B (96)",
    "qwen-72b": "Qwen1.5-72B (32)",
}
LARGE = ("llama-30b", "yi-34b", "llama-2-70b", "qwen-72b")


@functools.cache
def outcomes(name: str) -> dict[str, dict[str, Any]]:
    """Recorded outcomes of an experiment by claim (the record is checked against the program by tests/study)."""
    record = json.loads((ROOT / "experiments" / "claims.json").read_text(encoding="utf-8"))
    return {outcome["claim"]: outcome for outcome in record["experiments"][name]["outcomes"]}


@functools.cache
def asked(name: str, variant: str, *changes: tuple[str, Any]) -> dict[str, Any]:
    """The probes of a variant, with further keys changed."""
    import simserve
    from simserve.study.probes import evaluate

    keys = {**simserve.load(name).spec.variants[variant], **dict(changes)}
    return evaluate(simserve.load(name, **keys, variants={}, claims=[])).values


def within(outcome: dict[str, Any]) -> bool:
    low, high = outcome["low"], outcome["high"]
    return (low is None or outcome["ours"] >= low) and (high is None or outcome["ours"] <= high)


def verdict(outcome: dict[str, Any]) -> str:
    return "in" if within(outcome) else "out"


def qserve() -> str:
    """Tokens per second, published and ours, and what the claims say beside them."""
    of = outcomes("qserve_a100_table")
    rows = ["| model (QServe's batch) | QServe, published | ours | | W8A8, published | ours | |", "|---|---|---|---|---|---|---|"]
    for key, name in QSERVE.items():
        cells = [of[f"probes.speed of {kind}_{key}"] for kind in ("qserve", "w8a8")]
        rows.append(f"| {name} | " + " | ".join(f"{o['published']:.0f} | {o['ours']:.0f} | {verdict(o)}" for o in cells) + " |")
    errors = [abs(of[f"probes.speed of qserve_{key}"]["ours"] / of[f"probes.speed of qserve_{key}"]["published"] - 1) for key in QSERVE]
    inside = sum(within(of[f"probes.speed of qserve_{key}"]) for key in QSERVE)
    fits = [int(asked("qserve_a100_table", f"w8a8_{key}", ("probes.batch.prefill_together", False))["batch"]) for key in LARGE]
    fast = [o for claim, o in of.items() if claim.startswith("probes.speed, ")]
    ratios = ", ".join(f"{o['ours']:.2f} ({o['published']:.2f}, {verdict(o)})" for o in fast)
    batches = [of[f"probes.batch of qserve_{key}"] for key in QSERVE]
    facts = [
        f"- QServe's cells: {inside} of 8 in, mean error {100 * sum(errors) / 8:.0f} %, worst {100 * max(errors):.0f} %.",
        f"- Largest W8A8 batches of the four large models: {', '.join(map(str, fits))}.",
        f"- Speed-ups over the fastest of TensorRT-LLM's formats, ours (published): {ratios}.",
        f"- Largest batches by memory: {listed(batches, 'ours')}, where the authors ran {listed(batches, 'published')}; "
        f"{sum(map(within, batches))} of 8 within a factor of 1.5.",
    ]
    return "\n".join([*rows, "", *facts]) + "\n"


def listed(of: list[dict[str, Any]], key: str) -> str:
    return ", ".join(f"{outcome[key]:.0f}" for outcome in of)


def claims_table(name: str, labels: dict[str, str], digits: int = 2) -> str:
    """A row a claim: published, ours, the band, in or out. `labels` are the words for claims, with what was published."""
    rows = ["| claim | published | ours | band | |", "|---|---|---|---|---|"]
    for claim, label in labels.items():
        outcome = outcomes(name)[claim]
        what, _, published = label.partition(" = ")
        low, high = outcome["low"], outcome["high"]
        shown = [f"{value:,.0f}" if value > 100 else f"{value:.{digits}f}" for value in (outcome["ours"], low, high)]
        if min(abs(outcome["ours"] - low), abs(outcome["ours"] - high)) < 0.01:  # rounded it would seem to be on the other side
            shown = [f"{value:.3f}" for value in (outcome["ours"], low, high)]
        rows.append(f"| {what} | {published} | {shown[0]} | {shown[1]} to {shown[2]} | {verdict(outcome)} |")
    return "\n".join(rows) + "\n"


def comet() -> str:
    labels = {
        "probes.kernels, fp16 / comet": "kernels at 1,024 tokens over 16 bits = 2.88",
        "probes.kernels_at_64, fp16 / comet": "kernels at 64 tokens over 16 bits = 2.88",
        "probes.speed, comet / fp16": "throughput over TensorRT-LLM 16 bits = 2.02",
        "probes.speed, comet / w4a16": "throughput over TensorRT-LLM W4A16 = 2.02",
        "probes.speed, comet / w8a8": "throughput over TensorRT-LLM W8A8 = 2.02",
    }
    fits = {variant: int(asked("comet_w4a4", variant)["batch"]) for variant in ("fp16", "w4a16", "w8a8", "comet")}
    held = f"Requests at the largest batch: {fits['fp16']} in 16 bits, {fits['w4a16']} with W4A16, {fits['w8a8']} with W8A8, "
    held += f"{fits['comet']} with COMET."
    return f"{claims_table('comet_w4a4', labels)}\n{held}\n"


def swiftkv() -> str:
    labels = {
        "throughput.total_tokens of offline_swiftkv": "input and output tokens per second = 16,000",
        "throughput.total_tokens, offline_swiftkv / offline": "over the model without SwiftKV = up to 2.0",
        "tpot.mean, loaded_swiftkv / loaded": "time per output token at 5.5 requests/s, ratio = 0.4",
    }
    return claims_table("swiftkv_70b", labels)


def lserve() -> str:
    labels = {
        "probes.prefill_256k, vllm / lserve": "prefill of 256K tokens = up to 2.9",
        "probes.prefill_512k, vllm / lserve": "prefill of 512K tokens = up to 2.9",
        "probes.decode_64k, vllm / lserve": "decode at 64K = from 1.3",
        "probes.decode_128k, vllm / lserve": "decode at 128K = between",
        "probes.decode_256k, vllm / lserve": "decode at 256K = to 2.1",
        "probes.decode_512k, vllm / lserve": "decode at 512K = to 2.1",
    }
    return claims_table("lserve_ctx", labels)


def tiles() -> str:
    labels = {
        "probes.attention, code_none / code_snake": "attention of mixed steps, coding = 1.11",
        "probes.attention, conversation_none / conversation_snake": "attention of mixed steps, conversation = 1.26",
        "probes.linear, physical / virtual": "linear operators, tiles of 32 rows = 1.146",
        "probes.linear, physical_128 / virtual_128": "linear operators, tiles of 128 rows = 1.146",
    }
    names = dict.fromkeys(labels, "xy_padding") | dict.fromkeys(list(labels)[:2], "xy_reorder")
    rows = [
        claims_table(name, {claim: label for claim, label in labels.items() if names[claim] == name})
        for name in ("xy_reorder", "xy_padding")
    ]
    return rows[0] + "".join(line + "\n" for line in rows[1].splitlines()[2:])


def xquant() -> str:
    """Decode steps in milliseconds by context."""
    pairs = ("mha", "mha_4.16"), ("mha_h100", "mha_h100_4.16"), ("gqa", "gqa_2.08"), ("gqa_h100", "gqa_h100_2.08")
    rows = [
        "| context | A100 MHA, keys | layer input | H100 MHA, keys | layer input | A100 GQA, keys | latents | H100 GQA, keys | latents |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for probe, context in (("at_2k", 2_000), ("at_8k", 8_000), ("at_32k", 32_000), ("at_128k", 128_000)):
        times = [f"{1e3 * asked('xquant_map', variant)[probe]:.1f}" for pair in pairs for variant in pair]
        rows.append(f"| {context:,} | {' | '.join(times)} |")
    return "\n".join(rows) + "\n"


def supernode() -> str:
    """Each figure held against CloudMatrix384, and the rates of XY-Serve end to end: published, ours, the band, and ours where what was
    assumed is moved."""
    rows = ["| figure | published | ours | band | | ours where an assumption is moved |", "|---|--:|--:|--:|---|---|"]
    recorded = claims_record.read()
    for name in ("cm384_decode", "cm384_microbatch", "cm384_prefill_eplb", "xy_e2e"):
        rows.append(f"| **`{name}`** | | | | | |")
        for outcome in recorded[name].outcomes:
            if outcome.ours is None or outcome.published is None or (name == "xy_e2e" and not outcome.claim.startswith("throughput")):
                continue
            moved: dict[str, list[str]] = {}
            for row in recorded[name].sensitivity:
                at, now = f"{row.value:g}" if row.factor is None else f"x {row.factor:g}", row.ours[outcome.claim]
                if now is not None and abs(now / outcome.ours - 1) >= 0.005:
                    moved.setdefault(row.key.rsplit(".", 1)[-1], []).append(f"{now:.3g} at {at}")
            told = "; ".join(f"`{key}` {', '.join(each)}" for key, each in moved.items()) or "does not move"
            figures = f"{outcome.published:.3g} | {outcome.ours:.3g} | {outcome.low:.3g} to {outcome.high:.3g}"
            rows.append(f"| {outcome.claim.removeprefix('probes.')} | {figures} | {'in' if outcome.reproduced else '**out**'} | {told} |")
    return "\n".join(rows) + "\n"


def counts() -> dict[str, str]:
    """How many claims of each experiment are within their bands, kind by kind."""
    recorded = claims_record.read()
    return {name: kinds.heading(recorded[name].outcomes) for name in NAMES}


SECTIONS = {
    "qserve": qserve,
    "comet": comet,
    "swiftkv": swiftkv,
    "xquant": xquant,
    "lserve": lserve,
    "tiles": tiles,
    "supernode": supernode,
}


def page() -> str:
    """docs/paper-costs.md with its made sections made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for section, make in SECTIONS.items():
        begin, end = f"<!-- {section}: written by tests/docs/refresh.py -->", f"<!-- end of {section} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{make()}\n{end}{rest.split(end)[1]}"
    return text
