"""vLLM-Ascend's graph modes as its server is told them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simserve.config.experiment import load
from simserve.errors import ConfigError


def loaded(**flags: Any) -> Any:
    return load(
        {
            "model": "qwen3-8b",
            "hardware": "ascend-910b3",
            "engine": {"name": "vllm-ascend", **flags},
            "workload": {
                "lengths": {"prompt": {"kind": "fixed", "tokens": 64}, "output": {"kind": "fixed", "tokens": 4}},
                "closed_loop": {"concurrency": 1},
                "count": 1,
            },
        }
    )


def host_of(**flags: Any) -> Any:
    return loaded(**flags).resolved()["engine"]["host"]


def test_a_step_of_decodes_is_one_graph_under_full_modes_alone() -> None:
    piece = host_of()["per_graph_piece_s"]
    assert piece > 0
    for mode in ("FULL", "FULL_DECODE_ONLY"):
        assert host_of(compilation_config={"cudagraph_mode": mode})["per_graph_piece_s"] == 0
        assert host_of(compilation_config=json.dumps({"cudagraph_mode": mode}))["per_graph_piece_s"] == 0
    for mode in ("PIECEWISE", "FULL_AND_PIECEWISE"):  # vllm_ascend/platform.py makes one of the other
        assert host_of(compilation_config={"cudagraph_mode": mode})["per_graph_piece_s"] == piece


def test_captured_sizes_are_those_of_the_flag() -> None:
    resolved = loaded(compilation_config={"cudagraph_capture_sizes": [1, 4, 16]}).resolved()
    assert resolved["engine"]["cuda_graph_sizes"] == [1, 4, 16]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"compilation_config": {"cudagraph_mode": "full"}}, "did you mean 'FULL'"),
        ({"compilation_config": {"cudagraph_mode": "NONE"}}, r"cuda_graph_sizes: \[\]"),
        ({"compilation_config": {"cudagraph_mode": "FULL"}, "host": {"per_graph_piece_s": 1e-3}}, "give one of them"),
        ({"compilation_config": "{"}, "expected a mapping, or one as JSON"),
        ({"cudagraph_mode": "FULL"}, "did you mean 'compilation_config.cudagraph_mode'"),
    ],
)
def test_what_it_cannot_be_is_said(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        loaded(**flags)
