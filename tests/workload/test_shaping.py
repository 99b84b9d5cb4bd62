"""Windows, filters, limits, resampling and rates do what they say to every column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simserve.workload.requests import Labels, PrefixBlocks, RequestTable
from simserve.workload.shaping import Shaping, TokenLimits, clip_tokens, make_dependent, root_arrival_s, shape
from simserve.workload.trace import read_trace, write_trace


def table(n: int = 1000, seed: int = 0, **columns) -> RequestTable:
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.uniform(0, 100, n))
    arrival[:1] = 0.0
    return RequestTable.build(arrival, rng.integers(0, 5000, n), rng.integers(0, 900, n), **columns)


def shaped(t: RequestTable, seed: int = 0, **options) -> RequestTable:
    return shape(t, Shaping(**options), seed, "test")


def test_window_keeps_its_rows_and_rebases_then_scales():
    t = table()
    w = shaped(t, start_s=20, duration_s=30, rate_scale=4)
    inside = (t.arrival_s >= 20) & (t.arrival_s < 50)
    assert np.array_equal(w.prompt_tokens, t.prompt_tokens[inside])
    assert np.allclose(w.arrival_s * 4 + 20, t.arrival_s[inside])


def test_windows_partition_the_trace():
    t = table()
    parts = [shaped(t, start_s=10.0 * k, duration_s=10) for k in range(10)]
    assert sum(len(p) for p in parts) == len(t) and sum(int(p.prompt_tokens.sum()) for p in parts) == int(t.prompt_tokens.sum())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 20000), st.integers(0, 20000), st.integers(2, 9000))
@example(2, 0, 2)  # a failed request needs no room for an output
def test_clipping_the_total_leaves_at_least_one_output_token(prompt, output, total):
    t = RequestTable.build(np.zeros(1), np.array([prompt]), np.array([output]))
    c = clip_tokens(t, TokenLimits(total_tokens=total))
    p, o = int(c.prompt_tokens[0]), int(c.output_tokens[0])
    assert p + o <= total and p <= prompt and o <= output
    assert (o == 0) == (output == 0)
    if prompt + output <= total:
        assert (p, o) == (prompt, output)
    elif prompt < total:
        assert p == prompt  # the output gives way first


def test_clipped_prompts_lose_the_blocks_beyond_them():
    prefix = PrefixBlocks(np.array([0, 4, 6]), np.array([1, 2, 3, 4, 1, 2]), 16)
    t = RequestTable.build(np.zeros(2), np.array([64, 20]), np.array([1, 1]), prefix=prefix)
    c = clip_tokens(t, TokenLimits(prompt_tokens=33))
    assert c.prefix.offsets.tolist() == [0, 3, 5] and c.prefix.ids.tolist() == [1, 2, 3, 1, 2]


def test_drop_leaves_short_requests_untouched():
    t = table()
    d = shaped(t, drop={"total_tokens": 2000})
    fits = t.prompt_tokens + t.output_tokens <= 2000
    assert np.array_equal(d.prompt_tokens, t.prompt_tokens[fits]) and np.array_equal(d.arrival_s, t.arrival_s[fits])


def test_filters_keep_exactly_the_labelled_rows():
    codes = np.arange(1000, dtype=np.int16) % 3
    t = table(label_model=Labels(codes, ("a", "b", "c")))
    f = shaped(t, filter={"model": ["a", "c"]})
    assert np.array_equal(f.prompt_tokens, t.prompt_tokens[codes != 1])


def test_resampling_is_unbiased_ordered_and_seeded():
    t = table()
    r = shaped(t, resample=50_000)
    assert len(r) == 50_000 and np.all(np.diff(r.arrival_s) >= 0)
    assert r.prompt_tokens.mean() == pytest.approx(t.prompt_tokens.mean(), rel=0.02)
    pairs = set(zip(t.arrival_s, t.prompt_tokens, t.output_tokens, strict=True))
    assert set(zip(r.arrival_s, r.prompt_tokens, r.output_tokens, strict=True)) <= pairs
    assert np.array_equal(r.arrival_s, shaped(t, resample=50_000).arrival_s)
    assert not np.array_equal(r.arrival_s, shaped(t, seed=1, resample=50_000).arrival_s)


def test_limit_keeps_the_first():
    t = table()
    assert np.array_equal(shaped(t, limit=7).arrival_s, t.arrival_s[:7])


def chain(after: list[int], arrival: list[float]) -> RequestTable:
    n = len(after)
    return RequestTable.build(np.array(arrival), np.arange(n) + 1, np.ones(n, np.int64), after=np.array(after))


def test_turns_stay_with_the_turns_before_them():
    # Row 1 waits for 0, row 3 for 1; row 4 waits for 2.
    t = chain([-1, 0, -1, 1, 2], [0.0, 99.0, 10.0, 99.0, 99.0])
    assert root_arrival_s(t).tolist() == [0, 0, 10, 0, 10]
    w = shaped(t, start_s=5)
    assert w.prompt_tokens.tolist() == [3, 5] and w.after.tolist() == [-1, 0] and w.arrival_s.tolist() == [5, 99]
    # Dropping row 1 takes row 3 with it, since its context would not exist.
    d = shaped(chain([-1, 0, 1], [0, 1, 2]), drop={"prompt_tokens": 1})
    assert d.prompt_tokens.tolist() == [1]


def test_replay_and_dependent_agree_when_answers_take_as_long_as_recorded():
    rng = np.random.default_rng(3)
    t = table(session=rng.integers(-1, 50, 1000))
    elapsed = np.zeros(1000)
    d = make_dependent(replace(t, elapsed_s=elapsed))
    finished = np.zeros(1000)
    for i in range(1000):
        finished[i] = d.arrival_s[i] + (finished[d.after[i]] if d.after[i] >= 0 else 0.0)
    assert np.allclose(finished, t.arrival_s)
    assert np.all(t.session[d.after[d.after >= 0]] == t.session[d.after >= 0])
    assert np.count_nonzero(d.after < 0) == np.count_nonzero(t.session < 0) + len(np.unique(t.session[t.session >= 0]))


_names = st.sampled_from(["default", "chat", "batch, urgent", 'say "hi"'])


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
def test_our_own_schema_round_trips_every_column(tmp_path_factory, ending, data):
    n = data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    after = np.array([-1] + [int(rng.integers(-1, i)) for i in range(1, n)])
    arrival = rng.uniform(0, 1e6, n)
    own = after < 0
    arrival[own] = np.sort(arrival[own])
    arrival[own] -= arrival[0]
    lengths = rng.integers(0, 4, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])

    def labels() -> Labels:
        texts = data.draw(st.lists(_names, min_size=n, max_size=n))
        names = tuple(dict.fromkeys(texts))
        return Labels(np.array([names.index(x) for x in texts], dtype=np.int16), names)

    t = RequestTable.build(
        arrival, rng.integers(0, 10**6, n), rng.integers(0, 10**6, n), max_output_tokens=rng.integers(-1, 9, n),
        priority=rng.integers(-5, 5, n), session=rng.integers(-1, 4, n), after=after, slo_class=labels(), label_model=labels(),
        log_type=labels(), prefix=PrefixBlocks(offsets, rng.integers(0, 2**40, offsets[-1]), 16),
    )  # fmt: skip
    path = write_trace(t, tmp_path_factory.mktemp("t") / f"t{ending}")
    back = read_trace(path)
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "max_output_tokens", "priority", "session", "after"):
        assert np.array_equal(getattr(t, name), getattr(back, name)), name
    for name in ("slo_class", "label_model", "log_type"):
        x, y = getattr(t, name), getattr(back, name)
        assert [x.names[c] for c in x.codes] == [y.names[c] for c in y.codes], name
    assert np.array_equal(t.prefix.ids, back.prefix.ids) and np.array_equal(t.prefix.offsets, back.prefix.offsets)
    assert back.prefix.block_tokens == 16
