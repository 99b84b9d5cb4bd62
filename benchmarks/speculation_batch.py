"""Speed-up of speculation by batch size: where it stops paying, and the shape of a published series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simserve.config.deployment import Deployment
from simserve.config.engine_profile import load_engine
from simserve.contracts import CostModel, Step
from simserve.cost.draft import Draft
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model

BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024)


def speedup(cost: CostModel, draft: Draft, batch: int, context_tokens: int, length: float) -> float:
    """Acceptance length x seconds of a decode step / seconds of a step that drafts and verifies, on one pipeline stage."""
    context = batch * context_tokens
    speculating = Step(batch, context, context_tokens, (), batch * (draft.width - 1), draft.steps)
    return length * cost.step_time(Step(batch, context, context_tokens)) / cost.step_time(speculating)


def crossing(cost: CostModel, draft: Draft, context_tokens: int, length: float, most: int = 4096) -> int | None:
    """The smallest batch, in steps of 8, at which speculation loses; None up to `most`."""
    return next((batch for batch in range(8, most + 1, 8) if speedup(cost, draft, batch, context_tokens, length) < 1.0), None)


def by_batch() -> str:
    """Llama-3.1-8B with an EAGLE-3 head on one H100 under vLLM, as Markdown."""
    model, hardware, engine = load_model("llama-3.1-8b"), load_profile("h100-sxm-80gb"), load_engine("vllm-v1")
    lines = [f"| k | length | context | {' | '.join(map(str, BATCHES))} | loses from |", "|" + "---:|" * (len(BATCHES) + 4)]
    for steps, length in ((1, 1.7), (3, 2.2), (3, 2.8), (5, 3.2)):
        draft = Draft("eagle3", steps)
        cost = Deployment(model, hardware, Parallel(), engine=engine, draft=draft, table_tokens=8192).cost
        for context in (200, 1000):
            values = [speedup(cost, draft, batch, context, length) for batch in BATCHES]
            lost = crossing(cost, draft, context, length)
            cells = " | ".join(f"{value:.2f}" for value in values)
            lines.append(f"| {steps} | {length} | {context:,} | {cells} | {lost or 'more than 4,096'} |")
    return "\n".join(lines)


def published_series(folder: Path, lengths: Sequence[float] = (1.7,)) -> str:
    """xLLM's runs with and without one MTP token, and DeepSeek-R1 on 16 dies of Ascend 910C (theirs is not stated), as Markdown."""
    import pandas as pd

    table = pd.read_csv(folder / "mtp_by_concurrency.csv").pivot(index="concurrency", columns="method")
    tpot, rate = table["tpot_mean_ms"], table["output_tokens_per_s"]
    draft = Draft("mtp", 1)
    deployed = Deployment(
        load_model("deepseek-r1"),
        load_profile("ascend-910c"),
        Parallel(16),
        engine=load_engine("vllm-ascend"),
        draft=draft,
        table_tokens=8192,
    )
    lines = ["| clients | TPOT without / with | tokens/s with / without | ours, a decode step of so many |", "|---:|---:|---:|---:|"]
    for clients in table.index.tolist():
        ours = ", ".join(f"{speedup(deployed.cost, draft, clients, 3250, length):.2f}" for length in lengths)
        faster, more = tpot["baseline"][clients] / tpot["mtp"][clients], rate["mtp"][clients] / rate["baseline"][clients]
        lines.append(f"| {clients} | {faster:.2f} | {more:.2f} | {ours} |")
    return "\n".join(lines)
