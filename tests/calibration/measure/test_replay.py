"""Replay: what is rebuilt of a step, which steps are drawn, how they are executed and compared."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simserve.calibration.replay.compare import errors
from simserve.calibration.replay.composition import chunks_of, contexts_of, pairs_of
from simserve.calibration.replay.execute import Measured
from simserve.calibration.replay.plan import ReplayPlan, ReplayStep, read_plan
from simserve.calibration.replay.prediction import ReplayRequest, make_plan
from simserve.calibration.replay.sample import COLUMNS, draw, read_steps, regimes
from simserve.errors import ConfigError, ModelError
from simserve.model import from_config

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


def test_one_chunk_is_rebuilt_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        new, context = int(rng.integers(1, 5000)), int(rng.integers(0, 100_000))
        assert chunks_of(1, new, new * context + new * (new + 1) // 2) == ((new, context),)


def test_several_chunks_keep_their_tokens_and_about_their_pairs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        real = [(int(n), int(c)) for n, c in zip(rng.integers(1, 600, 5), rng.integers(0, 4000, 5), strict=True)]
        tokens, pairs = sum(n for n, _ in real), pairs_of(tuple(real))
        rebuilt = chunks_of(5, tokens, pairs)
        assert len(rebuilt) == 5 and sum(n for n, _ in rebuilt) == tokens
        assert abs(pairs_of(rebuilt) - pairs) <= tokens  # half a token of context for each new one, and rounding


def test_contexts_add_up_and_spread() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    for requests, total in ((1, 700), (16, 16), (256, 300_000), (7, 50)):
        lengths = contexts_of(requests, total, 0.5, rng)
        assert len(lengths) == requests and sum(lengths) == total and min(lengths) >= 1
    wide = np.array(contexts_of(500, 500_000, 0.5, rng))
    assert wide.std() / wide.mean() == pytest.approx(0.5, rel=0.2)
    assert len(set(contexts_of(10, 1000, 0.0, rng))) == 1


def steps_file(path: Path, **columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = {
        "instance": [0] * 9,
        "lane": [0] * 9,
        "step": list(range(9)),
        "start_s": [float(i) for i in range(9)],
        "end_s": [i + 0.01 * (i + 1) for i in range(9)],
        "decode_requests": [0, 0, 2, 3, 3, 3, 1, 1, 1],
        "context_tokens": [0, 0, 90, 120, 123, 126, 40, 41, 42],
        "prefill_requests": [1, 2, 1, 0, 0, 0, 0, 0, 0],
        "prefill_tokens": [64, 96, 32, 0, 0, 0, 0, 0, 0],
        "prefill_pairs": [2080, 3000, 4000, 0, 0, 0, 0, 0, 0],
    } | columns
    parquet.write_table(pa.table(rows), path)
    return path


def test_every_regime_is_drawn_and_always_the_same_steps(tmp_path: Path) -> None:
    steps = read_steps(steps_file(tmp_path / "steps.parquet"), 0)
    assert sorted(set(regimes(steps).tolist())) == ["decode", "mixed", "prefill"]
    chosen = draw(steps, 5, np.random.Generator(np.random.PCG64(0)))
    assert set(regimes(steps)[chosen].tolist()) == {"decode", "mixed", "prefill"}
    assert len(chosen) == 5 and chosen.tolist() == draw(steps, 5, np.random.Generator(np.random.PCG64(0))).tolist()
    assert len(draw(steps, 100, np.random.Generator(np.random.PCG64(0)))) == 9  # each at most once


def test_bad_steps_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*--steps"):
        read_steps(tmp_path / "none.parquet", 0)
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        read_steps(tmp_path / "text.parquet", 0)
    with pytest.raises(ConfigError, match="no steps of instance 3; there are 0"):
        read_steps(steps_file(tmp_path / "a.parquet"), 3)
    with pytest.raises(ConfigError, match="several stages"):
        read_steps(steps_file(tmp_path / "b.parquet", lane=[1] * 9), 0)
    with pytest.raises(ConfigError, match="pass through layer groups"):
        read_steps(steps_file(tmp_path / "e.parquet", layer_groups=[4] * 9), 0)
    with pytest.raises(ConfigError, match="finite, positive duration"):
        read_steps(steps_file(tmp_path / "c.parquet", end_s=[float("nan")] * 9), 0)
    import pyarrow.parquet as parquet

    table = parquet.read_table(tmp_path / "a.parquet").drop_columns(["prefill_pairs"])
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(ConfigError, match="column prefill_pairs is missing"):
        read_steps(tmp_path / "d.parquet", 0)
    with pytest.raises(ConfigError, match="name it with --model"):
        make_plan(ReplayRequest(tmp_path / "a.parquet"))
    assert set(COLUMNS) <= set(parquet.read_table(tmp_path / "a.parquet").column_names)


def test_prediction_leaves_the_host_out(tmp_path: Path) -> None:
    path = steps_file(tmp_path / "steps.parquet")
    with_profile = make_plan(ReplayRequest(path, model="llama-3.1-8b", profile="h100-sxm-80gb", engine="vllm-v1"))
    bare = make_plan(ReplayRequest(path, model="llama-3.1-8b", profile="h100-sxm-80gb"))
    graphs = {s.step: s.graph_tokens for s in with_profile.steps}
    assert graphs[3] == 4 and graphs[0] == 0 and graphs[2] == 0  # three requests are padded to four; prefill runs without a graph
    for a, b in zip(with_profile.steps, bare.steps, strict=True):  # vllm-v1 adds host seconds to every step; none may be left in it
        assert a.predicted_s > 0 and (a.graph_tokens or a.predicted_s == pytest.approx(b.predicted_s, rel=1e-6))
    simulated = make_plan(ReplayRequest(path, model="llama-3.1-8b"))
    assert all(s.predicted_s == s.simulated_s for s in simulated.steps)
    assert [s.exact for s in bare.steps if s.step in (0, 1, 6)] == [True, False, True]


def test_a_plan_survives_the_journey(tmp_path: Path) -> None:
    plan = make_plan(ReplayRequest(steps_file(tmp_path / "steps.parquet"), model="llama-3.1-8b"))
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a replay plan"):
        read_plan(tmp_path / "plan.json")


def made_step(contexts: tuple[int, ...], chunks: tuple[tuple[int, int], ...], predicted_s: float = 1.0, graph: int = 0) -> ReplayStep:
    return ReplayStep(0, 0, 0, contexts, chunks, graph, 1.0, predicted_s, True)


def test_errors_by_regime() -> None:
    rows = [Measured(made_step((5,), (), p), 1.0, 1.0) for p in (0.9, 1.1)] + [Measured(made_step((), ((4, 0),), 2.0), 1.0, 1.0)]
    found = errors(rows)
    assert found["decode"]["mape_percent"] == pytest.approx(10.0) and found["decode"]["bias_percent"] == pytest.approx(-0.5, abs=0.01)
    assert found["prefill"]["bias_percent"] == pytest.approx(100.0) and "mixed" not in found
    assert found["all"]["steps"] == 3 and found["all"]["total_percent"] == pytest.approx(100.0 / 3, abs=0.01)


def plan_of(*steps: ReplayStep) -> ReplayPlan:
    return ReplayPlan("tiny", None, 1, 1, "test", {}, (), steps)


def test_layers_are_scaled_up_and_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that counts GEMMs: 4 a layer and the LM head."""
    pytest.importorskip("torch")
    from simserve.calibration.measure.devices import TorchDevice
    from simserve.calibration.measure.timing import Timing
    from simserve.calibration.replay import execute as module

    device, count = TorchDevice("cpu"), [0]
    real = device.torch.nn.functional.linear

    def counted(*given: Any) -> Any:
        count[0] += 1
        return real(*given)

    def clock(device: Any, calls: Any, rule: Any, graph: bool) -> Timing:
        before = count[0]
        calls[0]()
        return Timing(float(count[0] - before), 0.0, 1, 1)

    monkeypatch.setattr(device.torch.nn.functional, "linear", counted)
    monkeypatch.setattr(module, "time_calls", clock)
    model = from_config(TINY, name="tiny")
    for layers in (1, 2, 4):
        done = module.execute(plan_of(made_step((30, 17), ((9, 20),))), model, device, layers=layers, stream=io.StringIO())
        assert done.layers == layers and [m.seconds for m in done.measured] == [4 * 4 + 1]
    with pytest.raises(ConfigError, match=r"--layers is 5; tiny has 4"):
        module.execute(plan_of(), model, device, layers=5, stream=io.StringIO())


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 48},
        {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    ],
    ids=["llama", "qwen3", "mixtral"],
)
def test_models_run_every_kind_of_step(extra: dict[str, Any]) -> None:
    pytest.importorskip("torch")
    from simserve.calibration.measure.devices import TorchDevice
    from simserve.calibration.replay.execute import execute

    steps = [made_step((30, 17, 1), (), graph=4), made_step((), ((9, 20), (5, 0))), made_step((12,), ((9, 0),))]
    done = execute(plan_of(*steps), from_config(TINY | extra, name="tiny"), TorchDevice("cpu"), layers=2, stream=io.StringIO())
    assert not done.failures and len(done.measured) == 3 and all(m.seconds > 0 for m in done.measured)


@pytest.mark.parametrize(
    ("problem", "healthy", "ran", "failures"),
    [
        ("CUDA out of memory. Tried to allocate", True, 3, {"out of memory": 1}),
        ("CUDA error: misaligned address\nmore", True, 3, {"failed: CUDA error: misaligned address": 1}),
        ("CUDA error: bad", False, 1, {"failed: CUDA error: bad": 1, "not tried: the device had stopped working": 2}),
    ],
)
def test_steps_that_fail_are_counted(
    monkeypatch: pytest.MonkeyPatch, problem: str, healthy: bool, ran: int, failures: dict[str, int]
) -> None:
    pytest.importorskip("torch")
    from simserve.calibration.measure.devices import TorchDevice
    from simserve.calibration.replay import execute as module

    real, turn = module.time_calls, iter(range(9))

    def faulty(device: Any, calls: Any, rule: Any, graph: bool) -> Any:
        if next(turn) == 1:
            raise RuntimeError(problem)
        return real(device, calls, rule, graph)

    monkeypatch.setattr(module, "time_calls", faulty)
    monkeypatch.setattr(TorchDevice, "healthy", lambda self: healthy)
    plan, model = plan_of(*[made_step((9,), ())] * 4), from_config(TINY, name="tiny")
    done = module.execute(plan, model, TorchDevice("cpu"), stream=io.StringIO())
    assert len(done.measured) == ran and done.failures == failures


def test_a_model_that_cannot_be_executed_is_named() -> None:
    pytest.importorskip("torch")
    from simserve.calibration.measure.devices import TorchDevice
    from simserve.calibration.replay.execute import execute
    from simserve.model import load_model

    with pytest.raises(ModelError, match=r"deepseek-v2-lite|deepseek"):
        execute(plan_of(), load_model("deepseek-v3"), TorchDevice("cpu"), layers=1, stream=io.StringIO())


EXPERIMENT = """
name: tiny
model: model
hardware: cpu.yaml
engine: {name: vllm-v1, host: {per_step_s: 0.0, per_decode_request_s: 0.0, kernel_launch_s: 0.0}}
cluster:
  instances:
    - {count: 1, parallel: {tp: 1}, kv: {blocks: 500}, scheduler: {policy: sarathi, token_budget: 64, max_seqs: 8}}
workload:
  count: 15
  arrivals: {kind: poisson, rate_per_s: 50}
  lengths: {prompt: {kind: uniform, low_tokens: 16, high_tokens: 100}, output: {kind: uniform, low_tokens: 2, high_tokens: 20}}
seed: 0
"""


def test_measure_fit_validate_run_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, by the commands of docs/calibration.md, on a model small enough for a CPU."""
    pytest.importorskip("torch")
    pytest.importorskip("lightgbm", reason="fitting needs the 'calibrate' extra")
    from simserve.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "x.yaml").write_text(EXPERIMENT)

    def command(text: str) -> str:
        assert main(text.split()) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    ops = "gemm,host_copy,launch_overhead,hbm_stream"
    command(f"calibrate measure --device cpu --out tables --for-model model --tp 1,2 --quick --repeats 3 --ops {ops}")
    command("calibrate fit tables --facts tables/facts.yaml --out cpu.yaml")
    groups = json.loads(command("validate kernels cpu.yaml tables --json"))["groups"]
    gemm = next(g for g in groups if g["operator"] == "gemm")
    assert gemm["rows"] >= 60 and gemm["mape_percent"] < 60
    command("run x.yaml --steps --out out --no-plots --no-report --quiet")
    shown = command("calibrate replay out/steps.parquet --device cpu --out replayed --sample 6")
    assert "MAPE" in shown and "gather" in shown
    report = json.loads((tmp_path / "replayed" / "replay.json").read_text())
    assert report["errors"]["all"]["steps"] == 6 and report["layers"] == 4 and not report["failures"]
    assert {"plan.json", "pairs.parquet", "replay.json", "replay.png"} <= {p.name for p in (tmp_path / "replayed").iterdir()}
