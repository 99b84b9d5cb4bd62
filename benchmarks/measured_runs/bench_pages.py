"""Outputs of `vllm bench serve` collected with the command that served the model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import drafts
from benchmarks.measured_runs.cells import number, seconds
from benchmarks.measured_runs.checkpoints import over_random_tokens, quantisation_for, that_fits
from benchmarks.measured_runs.command_line import read_command
from benchmarks.measured_runs.skips import reason
from benchmarks.measured_runs.vllm_experts import expert_kernel
from simserve.model import load_model
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load

if TYPE_CHECKING:
    import pandas as pd

SHAREGPT = (1.1, 0.95)
"""Sigma of lognormal prompt and output lengths for ShareGPT rows."""

PRUNED = (1024.0, 2048.0)
"""Longest prompt and answer that `vllm bench serve` takes from ShareGPT (vllm/benchmarks/datasets.py,
is_valid_sequence; of an answer, prompt and answer together). One answer of 4,000 tokens, at 40 ms each, is longer than a measured run."""

_BOARDS = {"h100-sxm-80gb": "h100-pcie"}
"""Boards that the pages name by their chip. That their H100s are PCIe boards is inferred: one decodes Qwen3-32B at 1.5 TB/s, the SXM5 board
has 3.35 and the PCIe one 2.0, and prompts of dense models and of gpt-oss, under vLLM and TensorRT-LLM, take the PCIe board's time."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each result."""
    return [_case(row, dataset, index) for index, row in table.iterrows()]


def sharegpt(mean: float | None, which: int) -> Lengths:
    """Lengths of ShareGPT's prompts (0) or answers (1)."""
    return Lengths(mean or 1.0, "lognormal", high=PRUNED[which], spread=SHAREGPT[which])


def _case(row: Any, dataset: str, index: Any) -> Case:
    command = read_command(str(row["serve_command"]))
    gpu = names.hardware_name(str(row["gpu_page"]))
    gpu = _BOARDS.get(gpu, gpu)
    page = str(row["page"]).split("/")[0]
    model_name = _model_name(page, command.model)
    model = that_fits(names.find_model(model_name), gpu, command.tp * command.pp * command.dp)
    engine = "vLLM-Ascend" if gpu.startswith("ascend") and command.engine == "vLLM" else command.engine
    version = _version(str(row["engine_versions"]), engine)
    profile = names.engine_profile_name(engine, version)
    skip = reason(profile, engine or "a command that names none", gpu, model, model_name) or command.unsupported
    section = f"{row['section']} {row['serve_command']}".lower()
    speculation = drafts.stated(str(row["serve_command"]))
    if not skip and ("mtp" in section or "speculative" in section) and not speculation:
        skip = "how many tokens are drafted is cut off"
    if not skip and str(row["serve_command"]).rstrip().endswith("\\"):
        skip = "the serve command is cut off"
    measured = seconds(row, tpot_mean="mean_tpot_ms", ttft_mean="mean_ttft_ms")
    throughput = number(row["output_tokens_per_s"])
    if throughput:
        measured["output_tokens_per_s"] = throughput
    total = number(row["total_tokens_per_s"])
    if total:
        measured["total_tokens_per_s"] = total
    concurrency = int(number(row["max_concurrency"]) or 0)
    count = int(number(row["successful_requests"]) or 0)
    prompt, output = number(row["mean_input_tokens"]), number(row["mean_output_tokens"])
    if not skip and not (count and prompt and output):
        skip = "the result lacks its request count or lengths"
    text_lengths = "sharegpt" in str(row["case"]).lower() or not str(row["case"])
    quantisation = quantisation_for(model, command.quantisation) if model else None
    kernel: dict[str, str] = {}
    if engine == "vLLM" and not skip:
        split = command.tp * command.dp // command.ep
        kernel = expert_kernel(version, load_model(model, quantisation=quantisation), gpu, split)
    load = Load(
        "closed" if concurrency else "burst",
        sharegpt(prompt, 0) if text_lengths else Lengths(prompt or 1.0),
        sharegpt(output, 1) if text_lengths else Lengths(output or 1.0),
        requests=count,
        concurrency=concurrency,
    )
    return Case(
        dataset=dataset,
        label=f"{row['page']} row {index}: {str(row['serve_command'])[:60]} [{row['case']}]",
        run=f"{row['page']}/{engine}",
        engine=engine or "unknown",
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or model_name,
        quantisation=quantisation,
        load=load,
        measured=measured,
        tp=command.tp,
        pp=command.pp,
        dp=command.dp,
        ep=command.ep,
        settings=command.settings | speculation | kernel | ({} if text_lengths else over_random_tokens(model)),
        skip=skip,
    )


def _model_name(page: str, commanded: str) -> str:
    """The model of a result: the command's, unless that is another model than the page is about.

    A few commands on a page name a neighbour (Qwen3-14B on the page of Qwen3-32B); their results are those of the page's model.
    """
    about = names.find_model(page)
    if not commanded or (about and page.lower() not in commanded.lower()):
        return page
    return commanded


def _version(listed: str, engine: str) -> str:
    """The version of an engine in a page's list of versions."""
    for part in listed.split(";"):
        found = re.search(r"([A-Za-z\-]+):?\s*v?([\d][\w.\-]*)", part)
        if found and names.engine_profile_name(found[1]) == names.engine_profile_name(engine):
            return found[2]
    return ""
