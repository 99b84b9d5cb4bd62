"""An engine on devices that it does not run on: simulated as asked, and said."""

from __future__ import annotations

import pytest

import simserve
from simserve.config import engine_profile
from simserve.config.engine_profile import load_engine, names_for
from simserve.hardware import load_profile
from simserve.resources import available

VENDORS = {load_profile(name).device.vendor for name in available("hardware_profiles")}


def notes(engine: str, hardware: str) -> list[str]:
    experiment = simserve.load(
        {
            "model": "llama-2-7b",
            "hardware": hardware,
            "engine": engine,
            "cluster": {"instances": [{}]},
            "workload": {
                "count": 2,
                "arrivals": {"kind": "constant", "rate_per_s": 1.0},
                "lengths": {"prompt": {"kind": "fixed", "tokens": 9}, "output": {"kind": "fixed", "tokens": 2}},
            },
        }
    )
    return [text for text in simserve.run(experiment).summary_dict()["warnings"] if text.startswith("Engine profile")]


@pytest.mark.parametrize(
    ("engine", "hardware", "others"),
    [
        ("vllm-v1", "ascend-910b3", ["vllm-ascend", "mindie"]),
        ("mindie", "a100-sxm-80gb", ["vllm-v1", "tensorrt-llm"]),
        ("tensorrt-llm", "mi300x", ["sglang"]),
    ],
)
def test_one_that_does_not_run_there_is_said_with_those_that_do(engine: str, hardware: str, others: list[str]) -> None:
    (said,) = notes(engine, hardware)
    assert f"Engine profile {engine} is of" in said and hardware in said
    named = said.partition("Profiles for")[2].rstrip(".").replace(":", ",").split(", ")
    assert set(others) <= set(named) and engine not in named


@pytest.mark.parametrize(("engine", "hardware"), [("vllm-v1", "mi300x"), ("vllm-ascend", "ascend-910b3"), ("orca", "ascend-910b3")])
def test_nothing_is_said_of_one_that_runs_there_or_may(engine: str, hardware: str) -> None:
    assert notes(engine, hardware) == []


def test_makers_are_those_of_devices() -> None:
    for name in engine_profile.names():
        assert set(load_engine(name).vendors) <= VENDORS, name
    assert {name for vendor in VENDORS for name in names_for(vendor)} == {
        name for name in engine_profile.names() if load_engine(name).vendors
    }
