"""A name that is not bundled resolves to the same architecture or to nothing; what it says of its weights is what they are stored in."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import ModelError
from simserve.model import from_config, load_model, model_ids, model_names
from simserve.model.library import _index
from simserve.model.name_words import parse, without_format
from simserve.model.resolve import Names

DOC = Path(__file__).parents[2] / "docs" / "models.md"
PUBLISHED = Path(__file__).parents[3] / "shared" / "model_configs"
LISTED = {spelling: name for name in model_names() for spelling in (name, *model_ids(name))}
COPIES = {entry.name for copies in _index().copies.values() for entry, _ in copies}
BASES = sorted(set(model_names()) - COPIES)


def documented() -> list[tuple[str, str, str]]:
    """(name, bundled model, weights) of the table of docs/models.md."""
    text = DOC.read_text(encoding="utf-8").split("## Names")[1].split("\n## ")[0]
    return [(a, b, c) for a, b, c in re.findall(r"^\| `([^`]+)` \| ([^|]+?) \| ([^|]+?) \|", text, re.M)]


@pytest.mark.parametrize(("name", "bundled", "weights"), documented())
def test_the_table_of_names_is_what_they_resolve_to(name, bundled, weights):
    model = load_model(name)
    stored = model.quantisation.name
    assert (model.name, model.dtype if stored == "none" else stored) == (bundled, weights)
    assert model.taken == "" or f"'{name}' is taken as the bundled {bundled} (" in model.taken


def test_the_table_of_names_covers_formats_and_revisions():
    rows = documented()
    assert len(rows) > 25
    assert len({weights for _, _, weights in rows}) > 8


@pytest.mark.parametrize("spelling", LISTED)
def test_listed_names_resolve_to_themselves_under_any_vendor(spelling):
    name = LISTED[spelling]
    assert load_model(spelling).name == name
    tail = spelling.rsplit("/", 1)[-1]
    if name in COPIES:
        return  # whose copy it is decides how it is stored
    assert load_model(f"some-lab/{tail}").name == name
    assert load_model(tail).name == name


VENDOR = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20).filter(lambda text: text.strip("-_"))
FORMATS = {"W8A8": "w8a8_int8", "quantized.w4a16": "w4a16_int4", "AWQ": "w4a16_int4", "GPTQ-Int8": "w8a16_int8", "NVFP4": "w4a4_nvfp4"}
FORMATS |= {"bnb-4bit": "w4a16_nf4", "FP8-dynamic": "fp8", "": None}


@given(st.sampled_from(BASES), VENDOR, st.sampled_from(sorted(FORMATS)), st.permutations(["hf", "QuaRot", "mtp"]), st.data())
@settings(max_examples=150, deadline=None)
def test_vendor_and_order_of_suffixes_change_nothing(name, vendor, stored, words, data):
    suffixes = data.draw(st.permutations([*words[: data.draw(st.integers(0, 3))], *([stored] if stored else [])]))
    found = _index().resolve("-".join([f"{vendor}/{name}", *suffixes]))
    again = _index().resolve("-".join([name.upper(), *sorted(suffixes)]))
    assert found is not None
    assert found.name.startswith(name)
    assert again == found or vendor in ("nvidia", "amd", "unsloth")
    if found.name == name:
        assert found.method == FORMATS[stored]


SIZE = re.compile(r"\d+(?:\.\d+)?(?=b)")


@given(st.sampled_from([name for name in LISTED if parse(name).sizes]), st.integers(1, 999), st.data())
@settings(max_examples=200, deadline=None)
def test_a_name_of_another_size_is_never_taken(name, size, data):
    tail = name.rsplit("/", 1)[-1].lower()
    place = data.draw(st.sampled_from([m.span() for m in SIZE.finditer(tail)]))
    other = f"{tail[: place[0]]}{size}{tail[place[1] :]}"
    try:
        found = _index().resolve(other)
    except ModelError:
        return
    assert found is None or parse(other).sizes in {parse(s).sizes for s in (found.name, *model_ids(found.name))}


OTHER_MODELS = ("coder", "vl", "distill", "omni", "math", "pruned", "mini", "next", "moe", "embedding", "reap", "2612", "v2", "1m")


@given(
    st.sampled_from(sorted(LISTED)), st.one_of(st.sampled_from(OTHER_MODELS), st.text("abcdefghjklmnopqrstuvwxyz", min_size=5)), st.data()
)
@settings(max_examples=300, deadline=None)
def test_a_word_more_makes_another_model(name, word, data):
    parts = name.rsplit("/", 1)[-1].lower().split("-")
    place = data.draw(st.integers(1, len(parts)))
    longer = "-".join([*parts[:place], word, *parts[place:]])
    known = {parse(spelling).identity for spelling in LISTED}
    if parse(longer).identity == parse(name).identity:
        return  # a variant's word, or one of a weight format
    try:
        assert _index().resolve(longer) is None or parse(longer).identity in known
    except ModelError:
        assert parse(longer).identity in known


@pytest.mark.parametrize("word", OTHER_MODELS)
def test_words_of_other_models_belong_to_the_identity(word):
    assert len(parse(f"Qwen3-8B-{word}-Instruct").identity) > len(parse("Qwen3-8B-Instruct").identity)


@pytest.mark.parametrize("spelling", [s for s in LISTED if parse(s).sizes])
def test_the_sizes_of_a_listed_name_are_those_of_its_model(spelling):
    """3b means anything up to 3.9; `17b-16e` counts the active parameters, so does `aNb`, some without the embedding."""
    model, told = load_model(spelling), parse(spelling)
    total = [s for s in told.sizes if re.fullmatch(r"\d+(\.\d+)?b\d?", s)]
    if total and not any(re.fullmatch(r"\d+e", word) for word in told.identity):
        assert model.parameters() / 1e9 == pytest.approx(float(total[-1].split("b")[0]), rel=0.32)
    active = [s for s in told.sizes if s.startswith("a")]
    if active:
        embedding = model.parameter_parts()["embedding"] / 1e9
        assert float(active[0][1:-1]) * 0.8 - embedding < model.active_parameters() / 1e9 < float(active[0][1:-1]) * 1.32


@pytest.mark.parametrize("missing", BASES)
def test_a_model_missing_from_the_list_is_not_replaced_by_one_of_another_size(missing):
    entries = [entry for name, entry in _index().entries.items() if name != missing and entry.copy_of != missing]
    fewer = Names.of(entries)
    for spelling in (missing, *model_ids(missing)):
        try:
            found = fewer.resolve(spelling)
        except ModelError:
            continue
        if found is not None:
            assert load_model(found.name).parameters() == pytest.approx(load_model(missing).parameters(), rel=0.001)


def test_an_id_that_stands_for_two_shapes_is_refused():
    entries = dict(_index().entries)
    entries["qwen3-8b"] = entries["qwen3-8b"]._replace(ids=("Qwen/Qwen3-8B", "Qwen/Qwen3-14B-Chat"))
    wrong = Names.of(entries.values())
    assert wrong.resolve("Qwen3-14B").name == "qwen3-14b"
    with pytest.raises(ModelError, match="may be any of qwen3-14b, qwen3-8b, which differ"):
        wrong.resolve("Qwen3-14B-Instruct")


@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen3-30B-A3B-Instruct-2610",
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "Qwen/Qwen3-Coder-30B-A3B-Instruct-1M",
        "Qwen/Qwen2.5-Math-7B",
        "Qwen/Qwen3-Coder-8B",
        "deepseek-ai/DeepSeek-R1-Distill",
        "Qwen/Qwen2.5-7B-Instruct-1M",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-72B",
        "deepseek-ai/DeepSeek-V4-Flash-W8A8",
        "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF",
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
        "meta-llama/Llama-3.3-8B-Instruct",
        "zai-org/GLM-4.5-Flash",
        "cerebras/GLM-4.5-Air-REAP-82B-A12B",
        "mistralai/Mistral-7B-v0.4",
        "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
        "lmsys/SGLang-EAGLE3-Llama-3.1-8B-Instruct-SpecForge",
        "microsoft/Phi-3-mini-128k-instruct",
        "MiniMax/MiniMax-M3",
        "who/knows",
        "FP8",
    ],
)
def test_words_that_are_not_understood_make_another_model(name):
    with pytest.raises(ModelError, match="unknown model"):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "unsloth/Qwen3-8B-GGUF",
            "weights in GGUF are not simulated. The architecture is bundled as qwen3-8b: give that one a `quantisation`",
        ),
        ("llama3.1:8b-instruct-q4_K_M", "weights in Q4 are not simulated"),
        ("Qwen3-8B-IQ2_XXS", "weights in IQ2"),
        ("mlx-community/Qwen3-8B-4bit", "of which kind its 4-bit weights are"),
        ("turboderp/Qwen3-8B-exl2", "weights in EXL2"),
        ("Qwen3-8B-FP8-NVFP4", "states more than one weight format"),
        ("Qwen3-8B-AWQ-Int4-8bit", "states more than one number of bits"),
        ("Qwen3-8B-bf16-int4", "states more than one weight format"),
        ("unsloth/Qwen3-8B-bnb", "4 or 8 bits, which of them"),
        ("vllm-ascend/Qwen3-14B-w8a8sc", "also sparse and compressed"),
        ("Eco-Tech/GLM-5.1-w8a8c8", "parts of its cache are in 8 bits"),
        ("moonshotai/Kimi-K2-Chat", "may be any of kimi-k2, kimi-k2.5, which differ"),
    ],
)
def test_what_is_not_simulated_is_refused_with_the_reason(name, why):
    with pytest.raises(ModelError, match=re.escape(why)):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "base", "method"),
    [
        ("vllm-ascend/Qwen3-32B-W8A8", "qwen3-32b", "w8a8_int8"),
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", "w4a16_int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "qwen2.5-7b", "w8a16_int8"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-W8A8-FP8", "llama-3.1-70b", "fp8"),
        ("meituan/DeepSeek-R1-INT8", "deepseek-r1", "w8a8_int8"),
        ("unsloth/DeepSeek-V3-0324-BF16", "deepseek-v3", "none"),
        ("amd/Llama-3.1-405B-Instruct-FP4", "llama-3.1-405b", "w4a4_mxfp4"),
        ("nvidia/Llama-3.1-405B-Instruct-FP4", "llama-3.1-405b", "w4a4_nvfp4"),
    ],
)
def test_a_suffix_stores_weights_as_the_override_does(name, base, method):
    assert replace(load_model(name), name=base, taken="") == load_model(base, quantisation=method)
    assert load_model(name, quantisation="w4a16_int4").quantisation == load_model(base, quantisation="w4a16_int4").quantisation


def test_groups_of_weights_are_those_of_the_name():
    assert load_model("Qwen3-8B-GPTQ-Int4-g32").weight_bytes() > load_model("Qwen3-8B-GPTQ-Int4").weight_bytes()


def test_whose_fp8_it_is():
    """Qwen's own copies share a scale among 128 x 128 weights, those of NVIDIA and Red Hat among a tensor or a channel."""
    assert load_model("Qwen/Qwen3-Next-80B-A3B-Instruct-FP8").quantisation.name == "fp8_block128"
    assert load_model("Qwen3-30B-A3B-Instruct-2507-FP8").quantisation.name == "fp8_block128"
    for copy in ("nvidia/Qwen3-32B-FP8", "RedHatAI/Qwen3-32B-FP8-dynamic", "Qwen/Qwen3-32B-FP8-Static-PerTensor"):
        assert load_model(copy).quantisation.name == "fp8"
    assert load_model("zai-org/GLM-4.5-Air-FP8").quantisation.name == "fp8"


def test_a_word_for_how_it_is_stored_anyway_changes_nothing():
    for name, own in [("gpt-oss-120b-MXFP4", "gpt-oss-120b"), ("DeepSeek-R1-FP8", "deepseek-r1"), ("Kimi-K2.5-INT4", "kimi-k2.5")]:
        assert load_model(name).quantisation == load_model(own).quantisation


def test_four_bits_of_a_mixture_on_ascend_are_those_of_its_experts():
    stored = load_model("Eco-Tech/Qwen3.5-397B-A17B-w4a8-mtp").quantisation
    assert (stored.experts, stored.attention, stored.shared_experts) == ("w4a8_int4", "w8a8_int8", "w8a8_int8")
    assert load_model("vllm-ascend/Qwen3-32B-W4A8").quantisation.attention == "w4a8_int4"


def test_distilled_models_are_what_they_were_distilled_into():
    qwen, llama = load_model("DeepSeek-R1-Distill-Qwen-32B"), load_model("nvidia/DeepSeek-R1-Distill-Llama-70B-FP8")
    assert qwen.experts is None and qwen.parameters() == load_model("qwen2.5-32b").parameters()
    assert llama.mla is None and llama.parameters() == load_model("llama-3.1-70b").parameters()


def test_a_file_or_folder_comes_before_a_name_and_paths_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Qwen3-32B-AWQ"
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    (folder / "config.json").write_text(str({**config, "vocab_size": 100, "max_position_embeddings": 64}).replace("'", '"'))
    assert load_model("Qwen3-32B-AWQ").num_layers == 2
    for path in ("./Qwen3-8B", "/models/Qwen3-8B", "~/Qwen3-8B", "../Qwen3-8B"):
        with pytest.raises(ModelError, match="does not exist"):
            load_model(path)
    with pytest.raises(ModelError, match="unknown model"):
        load_model("a/b/Qwen3-8B")


@given(st.text(max_size=260))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_name_or_none(text):
    try:
        found = _index().resolve(text)
    except ModelError:
        return
    assert found is None or found.name in LISTED


def test_a_name_without_its_format():
    assert without_format("vllm-ascend/Qwen3-30B-A3B-W8A8-QuaRot") == "Qwen3-30B-A3B"
    assert without_format("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16") == "Llama-3.3-70B-Instruct"
    assert without_format("Qwen/Qwen3-8B") == "Qwen3-8B"


def test_a_second_edition_of_a_copy_is_not_taken_for_the_first():
    """NVIDIA's v2 of DeepSeek-R1 in FP4 stores one matrix of attention differently; it bears that in its name."""
    backwards = Names.of(reversed(_index().entries.values()))
    assert backwards.resolve("nvidia/DeepSeek-R1-NVFP4").name == "deepseek-r1-nvfp4"
    assert load_model("nvidia/DeepSeek-R1-0528-FP4-V2").quantisation.name == "mixed by layer: none, w4a4_nvfp4"


@pytest.mark.shared
@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("*--*.json")), ids=lambda file: file.stem)
def test_published_configurations_are_what_their_names_resolve_to(file):
    name, published = file.stem.replace("--", "/"), from_config(file)
    model = load_model(name)
    for fact in ("parameters", "active_parameters", "kv_bytes_per_token"):
        assert getattr(model, fact)() == getattr(published, fact)()
    assert (model.num_layers, model.max_position_embeddings) == (published.num_layers, published.max_position_embeddings)
    if published.quantisation.name != "none":
        assert model.weight_bytes() == pytest.approx(published.weight_bytes(), rel=0.02)
