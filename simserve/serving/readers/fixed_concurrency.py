"""Runs of a closed loop with a fixed number of clients: TTFT and TPOT for an input and output length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from simserve.serving import names
from simserve.serving.case import Case, Lengths, Load
from simserve.serving.readers.common import DISAGGREGATED, cache_settings, number, reason, seconds, text

if TYPE_CHECKING:
    import pandas as pd

_PUBLIC = "public inference benchmark dump"
"""The collection whose client draws lengths uniformly from 80 to 100 percent of the nominal ones."""

ROUNDS = 10
"""Requests per client in a run: InferenceMAX sends ten times the concurrency."""


def read(table: pd.DataFrame, dataset: str) -> list[Case]:
    """One case for each row."""
    return [_case(row, dataset) for _, row in table.iterrows()]


def _case(row: Any, dataset: str) -> Case:
    engine, version = text(row["backend"]), text(row["backend_version"])
    gpu, model = names.hardware_name(row["system"]), names.find_model(row["model_path"])
    profile = names.engine_profile_name(engine, version)
    concurrency = int(number(row["concurrency"]) or number(row["batch_size"]) or 0)
    skip = reason(profile, engine, gpu, model, row["model_path"])
    if not skip and row["mode"] == "disagg":
        skip = DISAGGREGATED
    if not skip and not concurrency:
        skip = "the number of clients is not stated"
    parallel: dict[str, Any] = dict(_parallel(row, model)) if not skip else {}
    quantisation = names.quantisation_for(model, text(row["gemm_quant_mode"])) if model else None
    load = Load(
        "closed",
        _lengths(row["input_tokens"], row["collection"]),
        _lengths(row["output_tokens"], row["collection"]),
        concurrency=concurrency,
        requests=ROUNDS * concurrency,
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
        measured=seconds(row, ttft_mean="ttft_ms", tpot_mean="tpot_ms"),
        settings=cache_settings(profile, quantisation or ""),
        skip=skip,
        **parallel,
    )


def _lengths(nominal: Any, collection: str) -> Lengths:
    high = float(nominal)
    return Lengths(0.9 * high, "uniform", high=high) if collection == _PUBLIC else Lengths(high)


def _parallel(row: Any, model: str) -> dict[str, int]:
    """tp, dp and ep of the row.

    Attention data parallelism that is not stated follows from the expert layout (tp x dp = moe_tp x moe_ep). Rows of one node whose
    product is 64 multiplied tp by ep (their ids say tp8_ep8): there the id is right.
    """
    tp, pp = int(number(row["tp_size"]) or 1), int(number(row["pp_size"]) or 1)
    moe_tp, ep = int(number(row["moe_tp_size"]) or 1), int(number(row["moe_ep_size"]) or 1)
    dp = int(number(row["attention_dp_size"]) or 0)
    if not names.is_sparse(model):
        return {"tp": tp, "pp": pp}
    told = re.search(r"_tp(\d+)_ep(\d+)_", str(row["id"]))
    if told and moe_tp * ep > int(told[1]):
        devices, ep = int(told[1]), int(told[2])
        return {"tp": 1, "dp": devices, "ep": ep} if tp == 1 else {"tp": devices, "dp": 1, "ep": ep}
    return {"tp": tp, "pp": pp, "dp": dp or max(1, moe_tp * ep // tp), "ep": ep}
