"""Energy of a run: measured power where there is any, and limits that hold everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import simserve
from simserve import resources
from simserve.cost.energy import EXPERT_TILE_ROWS, StepTotals, energy_j, traffic, work
from simserve.cost.experts import coverage
from simserve.hardware import load_profile
from simserve.hardware.device import Device
from simserve.model import load_model
from simserve.model.parallel import Parallel

A100 = load_profile("a100-sxm-80gb").device
NOTHING = StepTotals(*(np.zeros(0) for _ in range(4)))


def decode(batch: int, context: int, steps: int) -> StepTotals:
    return StepTotals(*(np.array([float(x)]) for x in (steps, batch, batch * context, steps * batch * context)))


def prompt(tokens: int) -> StepTotals:
    pairs = tokens * (tokens + 1) / 2
    return StepTotals(*(np.array([float(x)]) for x in (1, tokens, tokens / 2, pairs)))


def joined(*parts: StepTotals) -> StepTotals:
    return StepTotals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@pytest.mark.parametrize(
    ("tp", "prompt_tokens", "batch", "e2e_s", "share_of_tdp"),
    [(2, 256, 1, 6.99, 0.737), (2, 512, 8, 9.43, 0.762), (4, 1024, 1, 5.94, 0.586), (4, 512, 4, 6.27, 0.604), (8, 512, 1, 5.80, 0.435)],
)
def test_measured_power_of_llama_2_70b_on_a100(tp: int, prompt_tokens: int, batch: int, e2e_s: float, share_of_tdp: float) -> None:
    """Average power over a batch of 128 output tokens (Mutinifni/splitwise-sim, data/perf_model.csv): one prompt pass, 127 decode steps."""
    model = load_model("llama-2-70b")
    steps = joined(*([prompt(prompt_tokens)] * batch), decode(batch, prompt_tokens + 64, 127))
    joules = energy_j(A100, model, Parallel(tp=tp), steps, e2e_s, e2e_s)
    assert joules is not None
    assert joules / e2e_s / (tp * A100.tdp_w) == pytest.approx(share_of_tdp, rel=0.1)


@pytest.mark.parametrize("hardware", resources.available("hardware_profiles"))
def test_power_lies_between_idle_and_tdp(hardware: str) -> None:
    device, model = load_profile(hardware).device, load_model("llama-3.1-8b")
    assert energy_j(device, model, Parallel(tp=2), NOTHING, 0.0, 10.0) == pytest.approx(20 * device.idle_w)
    assert device.energy is not None and device.idle_w < device.energy.busy_w < device.tdp_w
    for steps in (decode(1, 1000, 100), decode(256, 1000, 100), prompt(8192)):
        roofline_s = float((steps.steps * np.maximum(16e9 / device.hbm_bytes_per_s, 16e9 * steps.tokens / device.peak("bf16"))).sum())
        joules = energy_j(device, model, Parallel(), steps, roofline_s, roofline_s)
        assert joules is not None
        assert device.idle_w < joules / roofline_s <= device.tdp_w * 1.000001


def test_a_batch_shares_the_energy_of_the_weights() -> None:
    model = load_model("llama-3.1-8b")
    per_token = [energy_j(A100, model, Parallel(), decode(n, 500, 100), 1.5, 1.5) / n for n in (1, 8, 64)]  # type: ignore[operator]
    assert per_token[0] > 6 * per_token[1] > 20 * per_token[2]


def test_experts_that_no_token_chooses_are_not_paid_for() -> None:
    model = load_model("mixtral-8x7b")
    moved = traffic(model, Parallel(tp=2))
    assert moved.expert_bytes == pytest.approx(2 * 3 * 4096 * 14336 * 8 * 32, rel=1e-6)
    read = model.parameters() - model.vocab_size * model.hidden_size
    assert moved.weight_bytes + moved.expert_bytes == pytest.approx(2 * read, rel=0.01)
    one, many = (energy_j(A100, model, Parallel(tp=2), decode(n, 10, 100), 5.0, 5.0) for n in (1, 64))
    dynamic = [joules - 2 * 115.0 * 5.0 for joules in (one, many) if joules is not None]
    assert 3.0 < dynamic[1] / dynamic[0] < 6.0, "64 tokens read all 8 experts of a layer, one token 2; both read the rest"


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize(("name", "tied"), [("llama-3.2-1b", True), ("qwen2.5-0.5b", True), ("qwen3-1.7b", True), ("llama-2-7b", False)])
def test_a_step_reads_every_weight_once_and_looks_embeddings_up(name: str, tied: bool, tp: int) -> None:
    """The embedding of a tied model is its head, which a step reads; where stages part them, the last one reads a copy of its own. So what
    is read does not depend on the stages: all parameters of a tied model, all but the embedding of another."""
    model = load_model(name)
    assert model.tie_word_embeddings is tied
    read = 2 * (model.parameters() - (0 if tied else model.vocab_size * model.hidden_size))
    one, two, most = (traffic(model, Parallel(tp=tp, pp=pp)) for pp in (1, 2, model.num_layers // 4))
    assert one.weight_bytes == pytest.approx(read, rel=0.01) and one.expert_bytes == 0
    assert two.weight_bytes == most.weight_bytes == one.weight_bytes


def test_links_carry_two_all_reduces_a_layer() -> None:
    model = load_model("llama-2-7b")
    assert traffic(model, Parallel()).link_bytes == 0
    # 2 (g - 1) buffers in all, for two all-reduces a layer and one after the embedding
    assert traffic(model, Parallel(tp=4)).link_bytes == pytest.approx(2 * 3 * (2 * 32 + 1) * 4096 * 2, rel=0.02)


@pytest.mark.parametrize(("ranks", "copies"), [(2, 1), (4, 2), (8, 2)])
def test_a_token_is_sent_to_the_ranks_of_its_experts_but_never_to_its_own(ranks: int, copies: int) -> None:
    """Mixtral, 2 experts a token: of two ranks one other, of more two. There and back in each of 32 layers, 4,096 elements of 2 bytes."""
    moved = traffic(load_model("mixtral-8x7b"), Parallel(dp=ranks, ep=ranks))
    assert moved.link_bytes == 2 * 32 * copies * 4096 * 2


def test_stages_pass_hidden_state_and_residual_on() -> None:
    """Llama 2 7B: twice 4,096 elements of 2 bytes at each border between stages."""
    links = [traffic(load_model("llama-2-7b"), Parallel(pp=pp)).link_bytes for pp in (1, 2, 4)]
    assert links == [0, 2 * 2 * 4096, 3 * 2 * 2 * 4096]


def test_a_device_without_figures_has_no_energy() -> None:
    bare = Device(**{**A100.model_dump(), "energy": None})
    assert energy_j(bare, load_model("llama-2-7b"), Parallel(), decode(1, 10, 10), 1.0, 1.0) is None


def test_a_run_reports_its_energy() -> None:
    spec = {
        "model": "llama-3.1-8b",
        "hardware": "a100-sxm-80gb",
        "cluster": {"instances": [{"count": 2, "max_model_len": 4096}]},
        "workload": {
            "arrivals": {"kind": "constant", "rate_per_s": 2.0},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 300}, "output": {"kind": "fixed", "tokens": 50}},
            "count": 20,
        },
    }
    summary = simserve.run(spec).summary_dict()
    energy, run_s = summary["energy"], summary["window"]["run_s"]
    assert energy["validated"] and "energy" not in summary["unvalidated"]
    assert energy["energy_j"] == pytest.approx(sum(row["energy_j"] for row in energy["instances"]))
    assert energy["joules_per_output_token"] == pytest.approx(energy["energy_j"] / 1000)
    assert 2 * A100.idle_w * run_s < energy["energy_j"] < 2 * A100.tdp_w * run_s
    # The same steps, one by one instead of in spans
    slow = simserve.run({**spec, "fast_forward": False}).summary_dict()["energy"]
    assert slow["energy_j"] == pytest.approx(energy["energy_j"], rel=1e-9)
    elsewhere = simserve.run({**spec, "hardware": "h200-sxm-141gb"}).summary_dict()
    assert not elsewhere["energy"]["validated"] and "energy" in elsewhere["unvalidated"]


def activations_by_hand(hidden: int, intermediate: int, layers: int, tp: int) -> float:
    """Bytes of activations that all ranks together read and write for one token of a Llama with as many KV heads as heads, 2 an element.

    On each of the tp ranks, whole: two norms that read and write the residual and their own result (4 hidden each), the inputs of the two
    column-parallel matrices and the outputs of the two row-parallel ones (hidden each). Split over the ranks: queries, keys and values
    (3 hidden), their rotation (queries and keys read and written: 4 hidden), the attention's output (hidden), gate and up (2 intermediate),
    the activation (reads two, writes one: 3) and the input of the down projection (1).
    """
    each_rank = 2 * (2 * 4 * hidden + 4 * hidden)
    split = 2 * (3 * hidden + 4 * hidden + hidden + (2 + 3 + 1) * intermediate)
    return float(layers * (tp * each_rank + split))


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_activations_are_counted_on_each_rank(tp: int) -> None:
    """What tensor parallelism replicates is read and written tp times; what it splits is moved once in all."""
    assert traffic(load_model("llama-2-7b"), Parallel(tp=tp)).token_bytes == activations_by_hand(4096, 11008, 32, tp)
    assert traffic(load_model("llama-2-13b"), Parallel(tp=tp)).token_bytes == activations_by_hand(5120, 13824, 40, tp)


def test_stages_and_data_parallel_replicas_move_a_tokens_activations_once() -> None:
    assert traffic(load_model("llama-2-7b"), Parallel(tp=2, pp=2)).token_bytes == activations_by_hand(4096, 11008, 32, 2)
    # Only models with experts have replicas here. Outside the experts a token runs on one of them; the experts' part of it on all ranks,
    # whose fractions add up to the same.
    model = load_model("mixtral-8x7b")
    one, two = (traffic(model, Parallel(tp=tp, dp=dp, ep=ep)).token_bytes for tp, dp, ep in ((1, 1, 1), (1, 2, 2)))
    assert two == one


def test_the_energy_of_more_ranks_holds_the_replicated_activations() -> None:
    """A long prompt on 1 and on 4 devices that draw nothing by themselves: joules differ by memory and links alone."""
    figures = A100.energy
    assert figures is not None
    quiet = Device(
        **{**A100.model_dump(), "idle_w": 1e-9, "tdp_w": 1e12, "energy": {**figures.model_dump(), "busy_w": 1e-9}},
    )
    model, tokens = load_model("llama-2-7b"), 2000
    steps = prompt(tokens)
    one, four = (energy_j(quiet, model, Parallel(tp=tp), steps, 1.0, 1.0) for tp in (1, 4))
    assert one is not None and four is not None
    moved = [traffic(model, Parallel(tp=tp)) for tp in (1, 4)]
    weights = figures.joules_per_hbm_byte * (moved[1].weight_bytes - moved[0].weight_bytes)
    links = figures.joules_per_link_byte * tokens * moved[1].link_bytes
    replicated = figures.joules_per_hbm_byte * tokens * (activations_by_hand(4096, 11008, 32, 4) - activations_by_hand(4096, 11008, 32, 1))
    assert replicated == pytest.approx(figures.joules_per_hbm_byte * tokens * 3 * 32 * 24 * 4096)
    assert four - one == pytest.approx(weights + links + replicated, rel=1e-6)
    assert replicated > weights


def test_rows_of_experts_fill_tiles() -> None:
    """A few tokens are multiplied as 64 rows an expert; of many rows half a tile an expert is empty; dense models fill none."""
    model, device = load_model("mixtral-8x7b"), A100
    row = 2 * 3 * 4096 * 14336 * 32
    hit = float(coverage(np.array([4.0]), 8, 2)[0]) * 8
    few, many = (work(device, model, Parallel(), decode(n, 0, 1)).flops for n in (4, 100_000))
    rest = model.flops_per_token(logits=False) - 2 * row
    assert few == pytest.approx(4 * rest + hit * EXPERT_TILE_ROWS * row)
    assert many == pytest.approx(100_000 * model.flops_per_token(logits=False) + 8 * EXPERT_TILE_ROWS / 2 * row)
    dense = load_model("llama-2-7b")
    assert work(device, dense, Parallel(), decode(4, 0, 1)).flops == 4 * dense.flops_per_token(logits=False)


def test_activations_cost_their_own_figure_where_it_is_stated() -> None:
    """The joules between a profile with the figure and one without are the activations' bytes times the difference."""
    assert A100.energy is not None
    model, steps = load_model("llama-2-7b"), prompt(1000)
    costlier = A100.model_copy(update={"energy": A100.energy.model_copy(update={"joules_per_activation_byte": 2e-10})})
    one, two = (energy_j(device, model, Parallel(), steps, 1.0, 1.0) for device in (A100, costlier))
    assert one is not None and two is not None
    moved = work(A100, model, Parallel(), steps).activation_bytes
    assert two - one == pytest.approx(moved * (2e-10 - A100.energy.joules_per_hbm_byte))


def test_a_run_counts_the_head_only_where_it_is_computed() -> None:
    """A prompt of 1,000 tokens in chunks of 512 and one token out: the LM head runs for the last row of both chunks."""
    instance = {"scheduler": {"max_num_batched_tokens": 512}}
    lengths = {"prompt": {"kind": "fixed", "tokens": 1000}, "output": {"kind": "fixed", "tokens": 1}}
    spec = {"model": "llama-2-7b", "hardware": "a100-sxm-80gb", "engine": "vllm-v1", "cluster": {"instances": [instance]}}
    counted = simserve.run({**spec, "workload": {"arrivals": {"kind": "constant", "rate_per_s": 1.0}, "lengths": lengths, "count": 1}})
    model = load_model("llama-2-7b")
    flops = 1000 * model.flops_per_token(logits=False) + 500_500 * model.attention_flops_per_pair() + 2 * 2 * 32000 * 4096
    assert counted.records.counters["useful_flops"] == pytest.approx(flops)


def test_layers_with_a_window_read_no_more_than_it() -> None:
    """gpt-oss-120b: 18 of 36 layers attend 128 tokens. A long decode reads half its cache, a short one all of it, a prompt too."""
    model = load_model("gpt-oss-120b")
    whole = model.kv_bytes_per_token()

    def cache(steps: StepTotals) -> float:
        without = StepTotals(steps.steps, steps.tokens, np.zeros(1), np.zeros(1))
        return work(A100, model, Parallel(), steps).hbm_bytes - work(A100, model, Parallel(), without).hbm_bytes

    assert cache(decode(4, 8192, 10)) == pytest.approx(10 * 4 * (8192 + 128) * whole / 2)
    assert cache(decode(4, 100, 10)) == pytest.approx(10 * 4 * 100 * whole)
    assert cache(prompt(4096)) == pytest.approx(2048 * whole)
    llama = load_model("llama-3.1-8b")
    assert work(A100, llama, Parallel(), decode(1, 9000, 1)).flops == pytest.approx(
        llama.flops_per_token(logits=False) + 9000 * llama.attention_flops_per_pair()
    )
