"""Whatever stands in a config.json, the answer is a model or one clear ModelError."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import ModelError
from simserve.model import Parallel, from_config, layer_groups, layer_operators, model_names, rank_kv_bytes_per_token, rank_weight_bytes
from simserve.model.library import _library

CONFIGS = {name: _library()[name]["config"] for name in model_names()}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_corrupted_key_never_crashes(data):
    config = copy.deepcopy(CONFIGS[data.draw(st.sampled_from(sorted(CONFIGS)))])
    target = config
    if "quantization_config" in config and data.draw(st.booleans()):
        target = config["quantization_config"]
    key = data.draw(
        st.sampled_from([*sorted(target), "layer_types", "quantization_config", "text_config", "config_groups", "no_rope_layers"])
    )
    value = data.draw(json_values)
    if value is None and data.draw(st.booleans()):
        target.pop(key, None)
    else:
        target[key] = value
    try:
        model = from_config(config, name="corrupted")
    except ModelError as error:
        assert "corrupted" in str(error)
        return
    assert model.parameters() > 0 and model.weight_bytes() > 0
    assert sum(count for _, count in layer_groups(model)) == model.num_layers


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(CONFIGS)),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    st.integers(1, 8),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2, 8, 64]),
)
def test_any_layout_works_or_says_why_not(name, tp, pp, dp, ep):
    model, parallel = from_config(CONFIGS[name], name=name), Parallel(tp, pp, dp, ep)
    try:
        rank = rank_weight_bytes(model, parallel)
    except ModelError as error:
        assert name in str(error) or "parallel" in str(error)
        return
    # All devices together hold at least one copy of everything, and no rank more than the whole model and its padding.
    assert rank * parallel.devices >= model.weight_bytes() * 0.999
    assert rank <= model.weight_bytes() * 1.01
    assert rank_kv_bytes_per_token(model, parallel) * tp * pp >= model.kv_bytes_per_token() * 0.999
    for layer in range(0, model.num_layers, 7):
        for operator in layer_operators(model, parallel, layer):
            assert all(
                value > 0 for field in ("n", "k", "q_heads", "kv_heads", "width") if (value := getattr(operator, field, 1)) is not None
            )
