"""SGLang's radix cache by hand: what is found, cut, given up, and forgotten first."""

from __future__ import annotations

import pytest

from simserve.engine.kv_cache import KvCache
from simserve.engine.radix_contents import RadixContents
from simserve.engine.request import LiveRequest
from simserve.errors import ConfigError


def request(row: int, prompt: int, *ids: int) -> LiveRequest:
    made = LiveRequest(row, 0.0, prompt, 0, -1, -1)
    made.prefix_ids = list(ids)
    made.target_tokens = prompt
    return made


def cache(blocks: int = 100) -> tuple[KvCache, RadixContents]:
    index = RadixContents(1, 1)
    return KvCache(blocks, 1, 0, 0, index), index


def computes(kv: KvCache, one: LiveRequest) -> None:
    """It is looked up, admitted, and its prompt computed."""
    kv.look_up(one)
    assert kv.admit(one, one.target_tokens)
    kv.settle((), 0, 0)
    one.computed_tokens = one.target_tokens
    assert kv.radix is not None
    kv.give_back(kv.radix.add(one))


def ends(kv: KvCache, one: LiveRequest, output: int) -> None:
    """It has generated `output` tokens, the last of which has no KV."""
    assert kv.grow(one, one.target_tokens + output - 1)
    kv.settle((), 0, 0)
    one.computed_tokens = one.target_tokens + output - 1
    kv.release(one, gone=True)


def test_a_beginning_in_common_is_found_and_counted_once():
    kv, index = cache()
    computes(kv, request(0, 6, 1, 2, 3, 4))
    two = request(1, 5, 1, 2, 9)
    assert kv.look_up(two) == 2
    computes(kv, two)
    assert kv.used_blocks == index.blocks_in_use == 6 + 5 - 2


def test_the_last_token_is_always_computed():
    kv, _ = cache()
    computes(kv, request(0, 3, 1, 2, 3))
    assert kv.look_up(request(1, 3, 1, 2, 3)) == 2


def test_a_copy_that_was_made_meanwhile_is_given_up():
    kv, _ = cache()
    both = [request(row, 4, 1, 2, 3) for row in (0, 1)]
    for one in both:
        assert kv.admit(one, 4)
    assert kv.used_blocks == 8
    for one in both:
        one.computed_tokens = 4
        kv.give_back(kv.radix.add(one))
    assert kv.used_blocks == 5  # the last token of each is its own


def test_what_a_request_leaves_is_its_prompt_and_its_output_and_they_are_forgotten_apart():
    kv, index = cache(10)
    one = request(0, 4, 1, 2, 3, 4)
    computes(kv, one)
    ends(kv, one, 4)
    assert kv.used_blocks == 0 and index.idle_blocks == 7
    assert kv.admit(request(1, 4), 4)  # 10 blocks hold 6 of the 7 idle ones: the output, a leaf, is forgotten as a whole
    kv.settle((), 0, 0)
    assert index.idle_blocks == 4
    assert kv.look_up(request(2, 9, 1, 2, 3, 4)) == 4


def test_the_leaf_used_longest_ago_is_forgotten_first_and_looking_is_using():
    kv, index = cache(12)
    for row, first in ((0, 10), (1, 20)):
        one = request(row, 4, first, first + 1, first + 2, first + 3)
        computes(kv, one)
        kv.release(one, gone=True)
    assert kv.look_up(request(2, 9, 10, 11, 12, 13)) == 4  # it is not admitted
    assert kv.admit(request(3, 6), 6)
    kv.settle((), 0, 0)
    assert kv.look_up(request(4, 9, 10, 11, 12, 13)) == 4
    assert kv.look_up(request(5, 9, 20, 21, 22, 23)) == 0
    assert index.idle_blocks == 4


def test_all_of_a_batch_are_looked_up_before_memory_is_taken_for_any():
    kv, _ = cache(8)
    first = request(0, 4, 1, 2, 3, 4)
    computes(kv, first)
    kv.release(first, gone=True)
    assert kv.admit(request(1, 5), 5)
    assert kv.look_up(request(2, 5, 1, 2, 3, 4)) == 4
    kv.settle((), 0, 0)
    assert kv.look_up(request(2, 5, 1, 2, 3, 4)) == 0


def test_a_retracted_request_finds_its_prompt_again():
    kv, index = cache()
    one = request(0, 4)
    computes(kv, one)
    assert kv.grow(one, 9)
    one.computed_tokens = 9
    kv.release(one)
    assert (kv.used_blocks, index.idle_blocks) == (0, 4)
    one.computed_tokens, one.target_tokens = 0, 9
    assert kv.look_up(one) == 4


def test_runs_that_blocks_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="divide the trace's prefix blocks"):
        RadixContents(16, 24)
