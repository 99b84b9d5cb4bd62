"""SGLang on Ascend A3: the thresholds of its performance tests, with the arguments that it is served with.

A test fails below a throughput and above a time per output token. Throughputs are those of a measured run; of the times, round ones are
objectives that the run kept, so that nothing is known but an upper side: they are not judged (`tpot_kind`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import ascend_options, drafts
from benchmarks.measured_runs.cells import number
from benchmarks.measured_runs.checkpoints import is_sparse, quantisation_for
from benchmarks.measured_runs.skips import DISAGGREGATED, reason
from simserve.model import load_model
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load, Pool

if TYPE_CHECKING:
    import pandas as pd

PROFILE = "sglang-ascend"
_OBJECTIVE = "slo_round"


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each test."""
    return [_case(row, dataset, index) for index, row in table.iterrows()]


def model_name(stated: str) -> str:
    """`QWEN3_30B_A3B_W8A8_VLLM_MODEL_PATH` -> `QWEN3-30B-A3B-W8A8`, a variable of the tests; a point between the digits of a version."""
    word = stated.removesuffix("_MODEL_PATH").removesuffix("_VLLM").removesuffix("_MTP")
    if word == stated:
        return stated.replace("_", "-") if stated.islower() else stated
    for version in ("2_5", "3_5", "3_6"):
        word = word.replace(f"_{version}_", f"{version.replace('_', '.')}_").replace(f"QWEN{version}", f"QWEN{version.replace('_', '.')}")
    return word.replace("M2_5", "M2.5").replace("QWEN3_6", "QWEN3.6").replace("_", "-").replace("M2.5", "-M2.5").replace("--", "-")


def _case(row: Any, dataset: str, index: Any) -> Case:
    flags = ascend_options.arguments(str(row["serve_args"] or ""))
    quantised = str(row["quantization"]) == "modelslim" or "w8a8" in str(row["path"])
    model = names.find_model(model_name(str(row["model"])))
    if quantised and model and load_model(model).quantisation.name.startswith("fp8"):  # the copy in 8-bit integers of a model in fp8
        model = names.find_model(f"{model}-W8A8") or model
    gpu = names.hardware_name("910B (Atlas A2)" if str(row["path"]).endswith("_a2.py") else "910C (Atlas A3)")
    skip = reason(PROFILE, "SGLang on Ascend", gpu, model, row["model"])
    tp, dp = int(number(row["tp"]) or 0), int(number(row["dp"]) or 1)
    if not skip and not tp:
        skip = DISAGGREGATED if "1p1d" in str(row["path"]) else "the layout is not stated"
    shared = ascend_options.shared_prefix(str(row["path"])) if str(row["dataset_name"]) == "generated-shared-prefix" else 0.0
    if not skip and str(row["dataset_name"]) == "image":
        skip = "images are not simulated"
    speculation = _speculation(row)
    if not skip and row["spec"] and str(row["spec"]) != "nan" and not speculation:
        skip = drafts.UNSTATED
    prompt, output = number(row["input_len"]), number(row["output_len"])
    clients = int(number(row["max_concurrency"]) or 0)
    requests = int(number(row["num_prompts"]) or 4 * clients)
    measured: dict[str, float] = {}
    throughput, tpot = number(row["output_tok_s_threshold"]), number(row["tpot_ms_threshold"])
    if throughput:
        measured["output_tokens_per_s"] = throughput
    if tpot and str(row["tpot_kind"]) != _OBJECTIVE:
        measured["tpot_mean"] = tpot / 1000.0
    if not skip and not measured:
        skip = "only objectives are stated"
    sparse = bool(model) and is_sparse(model)
    return Case(
        dataset=dataset,
        label=f"{str(row['path']).rsplit('/', 1)[-1].removesuffix('.py').strip() or row['model']} row {index}",
        run=str(row["path"]),
        engine="SGLang on Ascend",
        version="",
        profile=PROFILE,
        gpu=gpu,
        model=model or str(row["model"]),
        quantisation=quantisation_for(model, "w8a8" if quantised else "") if model else None,
        load=Load(
            "closed" if clients else "open",
            Lengths(prompt or 1.0),
            Lengths(output or 1.0),
            requests=requests,
            concurrency=clients,
            shared_prefix_fraction=shared,
            rate_per_s=0.0 if clients else float(number(row["request_rate"]) or 1.0),
        ),
        measured=measured,
        tp=max(1, tp // dp),
        dp=dp if sparse else 1,
        ep=max(tp, 1) if sparse and ("moe-a2a-backend" in flags or dp > 1) else 1,
        pools=_pools(row, tp, dp),
        settings=_settings(row, flags) | {"prefix_caching": shared > 0} | speculation,
        skip=skip,
    )


def _pools(row: Any, tp: int, dp: int) -> tuple[Pool, Pool] | None:
    """`2p1d`: so many prefill and decode instances; the columns without `prefill` are those of a decode instance."""
    found, prefill = re.search(r"_(\d)p(\d)d_", str(row["path"])), int(number(row["prefill_tp"]) or 0)
    if found is None or not prefill or not tp:
        return None
    replicas = int(number(row["prefill_dp"]) or 1)
    return Pool(int(found[1]), prefill // replicas, replicas, prefill), Pool(int(found[2]), tp // dp, dp, tp)


def _settings(row: Any, flags: dict[str, list[str]]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    running, memory, chunk = number(row["max_running"]), number(row["mem_fraction"]), number(row["chunk"])
    dp = int(number(row["dp"]) or 1)
    if running:
        settings["max_seqs"] = max(1, int(running) // dp)
    if memory:
        settings["memory_utilisation"] = memory
    most = flags.get("max-prefill-tokens") or flags.get("max-prefill-token")
    limit = dp * int(most[0]) if most else 0  # of each replica, where the chunk is divided among them
    if chunk and chunk > 0:
        settings["max_num_batched_tokens"] = int(min(chunk, limit) if limit else chunk)
    elif limit:
        settings["max_num_batched_tokens"] = limit
    sizes = [int(word) for word in flags.get("cuda-graph-bs", []) if word.isdigit()]
    return settings | ascend_options.graph_sizes(sizes, PROFILE, dp)


def _speculation(row: Any) -> dict[str, Any]:
    steps, method = int(number(row["spec_steps"]) or 0), str(row["spec"])
    if method == "EAGLE3":
        return ascend_options.eagle3(steps)
    return drafts.mtp(steps) if method in ("NEXTN", "EAGLE") and steps else {}
