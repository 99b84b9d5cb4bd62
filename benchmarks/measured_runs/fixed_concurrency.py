"""Runs of a closed loop with a fixed number of clients: TTFT and TPOT for an input and output length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.measured_runs import launch
from benchmarks.measured_runs.cells import number, seconds, text
from benchmarks.measured_runs.checkpoints import cache_settings, is_sparse, over_random_tokens, quantisation_for
from benchmarks.measured_runs.skips import reason
from benchmarks.measured_runs.vllm_experts import expert_kernel
from simserve.model import load_model
from simserve.validation import names
from simserve.validation.case import Case, Lengths, Load, Pool

if TYPE_CHECKING:
    import pandas as pd


_NODE_DEVICES = 8


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each row."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    engine, version = text(row["backend"]), text(row["backend_version"])
    gpu, model = names.hardware_name(row["system"]), names.find_model(row["model_path"])
    profile = launch.engine_profile(text(row["collection"]), names.engine_profile_name(engine, version))
    concurrency = int(number(row["concurrency"]) or 0)
    tail, disaggregated = str(row["model_path"]).split("/")[-1], row["mode"] == "disagg"
    skip = reason(profile, engine, gpu, model, row["model_path"])
    if not skip and not concurrency:
        skip = "the number of clients is not stated"
    parallel: dict[str, Any] = dict(_parallel(row, model)) if not skip and not disaggregated else {}
    pools = _pools(row, gpu, concurrency) if not skip and disaggregated else None
    if not skip and disaggregated and pools is None:
        skip = "the numbers of prefill and decode workers are not known"
    weights = "moe_quant_mode" if model and is_sparse(model) else "gemm_quant_mode"  # nearly all weights are the experts'
    quantisation = quantisation_for(model, text(row.get(weights))) if model else None
    prompt, output = int(row["input_tokens"]), int(row["output_tokens"])
    dp = parallel.get("dp", 1)
    drafted = 0 if disaggregated else launch.mtp_tokens(text(row["collection"]), profile, tail, gpu, text(row.get("measured_on")), dp > 1)
    run = launch.Run(profile, gpu, tail, prompt, output, concurrency, parallel.get("tp", 1), dp, drafted)
    settings: dict[str, Any] = cache_settings(profile, quantisation or "")
    if not skip and not disaggregated and profile.startswith("vllm"):
        split = parallel["tp"] * dp // parallel.get("ep", 1)
        settings |= expert_kernel(version, load_model(model, quantisation=quantisation), gpu, split)
    settings |= launch.settings(text(row["collection"]), run) | over_random_tokens(model)
    measured = seconds(row, ttft_mean="ttft_ms", tpot_mean="tpot_ms")
    if not skip and _slots_unknown(measured, settings, concurrency, output):
        skip = "requests wait for whole answers though the recipe gives each client a slot: the server's slots are not stated"
    load = Load(
        "closed",
        _lengths(prompt, row["collection"]),
        _lengths(output, row["collection"]),
        concurrency=concurrency,
        requests=launch.requests_per_client(disaggregated, tail) * concurrency,
        distinct_prompts=launch.distinct_prompts(text(row["collection"]), profile, prompt),
    )
    return Case(
        dataset=dataset,
        label=str(row["id"]),
        run=f"{engine}/{version}/{row['system']}/{row['model_path']}/{row['input_tokens']}x{row['output_tokens']}",
        engine=engine,
        version=version,
        profile=profile,
        gpu=gpu,
        model=model or str(row["model_path"]),
        quantisation=quantisation,
        load=load,
        measured=measured,
        settings=settings,
        pools=pools,
        skip=skip,
        **parallel,
    )


def _slots_unknown(measured: dict[str, float], settings: dict[str, Any], clients: int, output_tokens: int) -> bool:
    """Whether the mean request waits twice as long as an answer takes, at the pace of few sequences, where by the launch script as many
    sequences run as there are clients (a server that is out of memory decodes at the pace of many).

    Rows of gpt-oss with 512 clients are so: 3.6 ms a token, the pace of four sequences, and 118 s before the first one, which is ten rounds
    of four slots. Their client had ten requests for each slot, all sent at once, and its cap is not the load.
    """
    wait, pace = measured.get("ttft_mean", 0.0), measured.get("tpot_mean", 0.0)
    return settings.get("max_seqs") == clients and wait > 2.0 * pace * output_tokens > 0.0


def _lengths(nominal: Any, collection: str) -> Lengths:
    high = float(nominal)
    return Lengths(0.9 * high, "uniform", high=high) if collection == launch.PUBLIC else Lengths(high)


def _pools(row: Any, gpu: str, clients: int) -> tuple[Pool, Pool] | None:
    """The workers of a disaggregated row: as it states them, else as the public recipe for its device, lengths and clients does."""
    stated = (_pool(row, "prefill"), _pool(row, "decode"))
    if stated[0] is not None and stated[1] is not None:
        return stated[0], stated[1]
    spread = bool((number(row["decode_moe_ep_size"]) or 1) > 1)
    return launch.pools(gpu, int(row["input_tokens"]), int(row["output_tokens"]), clients, spread)


def _pool(row: Any, role: str) -> Pool | None:
    """One kind of workers, None when their number is not stated."""
    workers = number(row[f"{role}_num_workers"])
    told = {name: int(number(row[f"{role}_{name}_size"]) or 1) for name in ("tp", "attention_dp", "moe_ep")}
    return Pool(int(workers), told["tp"], told["attention_dp"], told["moe_ep"]) if workers else None


def _parallel(row: Any, model: str) -> dict[str, int]:
    """tp, dp and ep of the row.

    Attention data parallelism that is not stated follows from the expert layout (tp x dp = moe_tp x moe_ep). Some rows multiplied the
    number of devices by ep (their ids say tp8_ep8 or tp4_ep4, or nothing): co-located runs of this table fit one node, so where the
    product does not, the expert layout's own tp is the number of devices.
    """
    tp, pp = int(number(row["tp_size"]) or 1), int(number(row["pp_size"]) or 1)
    moe_tp, ep = int(number(row["moe_tp_size"]) or 1), int(number(row["moe_ep_size"]) or 1)
    dp = int(number(row["attention_dp_size"]) or 0)
    if not is_sparse(model):
        return {"tp": tp, "pp": pp}
    told = re.search(r"_tp(\d+)_ep(\d+)_", str(row["id"]))
    devices = int(told[1]) if told else moe_tp if moe_tp * ep > _NODE_DEVICES else moe_tp * ep
    if moe_tp * ep > devices:
        return {"tp": 1, "dp": devices, "ep": ep} if tp == 1 else {"tp": devices, "dp": 1, "ep": ep}
    return {"tp": tp, "pp": pp, "dp": dp or max(1, moe_tp * ep // tp), "ep": ep}
