from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from simserve.errors import ConfigError
from simserve.validation.readers import read_directory, read_file
from simserve.validation.readers.client_results import completed_by

VLLM_RESULT = {
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "request_rate": 4.0,
    "max_concurrency": None,
    "completed": 100,
    "total_input_tokens": 51200,
    "total_output_tokens": 12800,
    "output_throughput": 500.0,
    "mean_ttft_ms": 40.0,
    "p99_ttft_ms": 90.0,
    "mean_tpot_ms": 9.0,
}


def test_a_result_of_a_benchmark_client_needs_its_device(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(VLLM_RESULT))
    found = read_directory(tmp_path)
    assert "--hardware" in found[0].skip
    told = completed_by(hardware="h100-sxm-80gb", tp=2)(found)[0]
    assert told.skip == "" and told.gpu == "h100-sxm-80gb" and told.tp == 2
    assert told.load.kind == "open" and told.load.rate_per_s == 4.0 and told.load.prompt.mean == 512
    assert told.measured["ttft_mean"] == pytest.approx(0.04)


def test_sglang_lines_aiperf_and_guidellm_are_understood(tmp_path: Path) -> None:
    sglang = VLLM_RESULT | {"backend": "sglang", "request_rate": "inf", "max_concurrency": 16}
    (tmp_path / "sglang.jsonl").write_text(json.dumps(sglang) + "\n" + json.dumps(sglang) + "\n")
    both = read_file(tmp_path / "sglang.jsonl")
    assert [c.load.kind for c in both] == ["closed", "closed"] and both[0].profile == "sglang"
    aiperf = {
        "time_to_first_token": {"unit": "ms", "avg": 50.0, "p99": 80.0},
        "inter_token_latency": {"unit": "ms", "avg": 8.0},
        "request_count": {"unit": "requests", "avg": 90.0},
        "input_sequence_length": {"unit": "tokens", "avg": 512.0},
        "output_sequence_length": {"unit": "tokens", "avg": 128.0},
        "input_config": {"endpoint": {"model_names": ["meta-llama/Llama-3.1-8B"]}, "loadgen": {"concurrency": 8}},
    }
    (tmp_path / "aiperf.json").write_text(json.dumps(aiperf))
    one = read_file(tmp_path / "aiperf.json")[0]
    assert one.measured["ttft_p99"] == pytest.approx(0.08) and one.load.concurrency == 8
    metric = {"successful": {"mean": 30.0, "percentiles": {"p99": 60.0}}}
    guide = {
        "benchmarks": [
            {
                "config": {"strategy": {"type_": "concurrent", "streams": 4}},
                "metrics": {
                    "time_to_first_token_ms": metric,
                    "inter_token_latency_ms": metric,
                    "prompt_token_count": metric,
                    "output_token_count": metric,
                    "request_totals": {"successful": 40},
                },
            }
        ]
    }
    (tmp_path / "guide.json").write_text(json.dumps(guide))
    two = read_file(tmp_path / "guide.json")[0]
    assert two.measured["ttft_mean"] == pytest.approx(0.03) and two.load.requests == 40 and two.load.concurrency == 4


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("empty.json", "", "is empty"),
        ("cut.json", '{"mean_ttft_ms": 3, "comp', "line 1, column 21: not valid JSON"),
        ("other.json", '{"hello": 1}', "not a result of a known client"),
    ],
)
def test_broken_results_are_refused_in_one_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_directory(tmp_path)


def test_unreadable_and_unknown_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match="not a readable Parquet table"):
        read_directory(tmp_path)
    (tmp_path / "broken.parquet").unlink()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "odd.parquet")
    with pytest.raises(ConfigError, match="no reader for a table with the columns a"):
        read_directory(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'odd'"):
        read_directory(tmp_path, "ood")
    with pytest.raises(ConfigError, match="no such file or directory"):
        read_directory(tmp_path / "nowhere")
