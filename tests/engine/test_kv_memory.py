"""KV memory: the verbs keep I3, and nothing else in simserve writes a count of blocks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import simserve
from simserve.engine.kv_cache import KvCache
from simserve.engine.prefix_cache import PrefixCache
from simserve.engine.request import LiveRequest
from simserve.errors import InvariantError

PACKAGE = Path(simserve.__file__).parent
COUNTS = {"free_blocks", "host_free_blocks", "used_blocks", "_free", "_used", "_host_free", "elsewhere"}


def writers(source: str) -> list[int]:
    """Lines that assign to, augment or delete an attribute with the name of a block count, or an item of one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            node = node.value
        elif not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)):
            continue
        if isinstance(node, ast.Attribute) and node.attr in COUNTS:
            found.append(node.lineno)
    return found


def test_one_file_writes_block_counts() -> None:
    """`validation` is left out: it notes what other engines say of their memory."""
    names = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    sources = {name: path.read_text(encoding="utf-8") for name, path in names.items() if not name.startswith("validation/")}
    assert {name for name, source in sources.items() if writers(source)} == {"engine/kv_cache.py"}


@pytest.mark.parametrize(
    "line",
    [
        "kv.free_blocks -= 3",
        "self.kv.free_blocks, self.kv.host_free_blocks = 1, 2",
        "a.b.host_free_blocks: int = 0",
        "instance.kv.elsewhere[row] = 4",
        "del kv.elsewhere[row]",
        "kv._free += 1",
    ],
)
def test_the_search_finds_writers(line: str) -> None:
    assert writers(line)
    assert not writers("free_blocks = kv.free_blocks - kv.elsewhere[row]")


def a_request(prompt_tokens: int = 16, ids: tuple[int, ...] = ()) -> LiveRequest:
    request = LiveRequest(0, 0.0, prompt_tokens, 0, -1, -1)
    request.prefix_ids = list(ids)
    return request


def counts(kv: KvCache) -> tuple[int, int, int]:
    assert kv.adds_up()
    return kv.free_blocks, kv.used_blocks, kv.host_free_blocks


@pytest.mark.parametrize("name", ["free_blocks", "used_blocks", "host_free_blocks"])
def test_counts_have_no_setters(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(KvCache(10, 4, 0, 0), name, 3)


def test_an_admission_leaves_the_watermark_and_growth_may_use_it() -> None:
    kv, request = KvCache(10, 4, 2, 0), a_request()
    assert not kv.admit(request, 9) and counts(kv) == (10, 0, 0) and request.held_blocks == 0
    assert kv.admit(request, 8) and request.held_blocks == 8
    assert kv.grow(request, 40) and counts(kv) == (0, 10, 0)
    assert not kv.grow(request, 41) and request.held_blocks == 10
    assert not kv.take(1) and kv.take(0)
    kv.release(request)
    assert counts(kv) == (10, 0, 0) and request.held_blocks == 0


def test_swapping_moves_blocks_and_comes_back_with_the_next_token() -> None:
    kv, request = KvCache(10, 4, 1, 4), a_request()
    kv.admit(request, 4)
    request.computed_tokens = 16
    assert kv.swap_out(request) and counts(kv) == (10, 0, 0) and request.held_blocks == 4
    other = a_request()
    assert kv.admit(other, 5) and not kv.swap_in(request), "five blocks and the watermark do not fit"
    assert not kv.swap_out(other), "the host has no room"
    kv.release(other)
    assert kv.swap_in(request) and counts(kv) == (5, 5, 4)


def test_blocks_between_instances_are_counted_on_both_sides() -> None:
    here, there, request = KvCache(10, 4, 0, 0), KvCache(10, 4, 0, 0), a_request()
    here.admit(request, 3)
    there.reserve(0, 2)
    there.reserve(0, 2)
    here.set_aside(request)
    assert (here.elsewhere, there.elsewhere) == ({0: 3}, {0: 4})
    here.release_set_aside(request, 0)
    there.receive(request)
    assert request.held_blocks == 4 and counts(here) == (10, 0, 0) and counts(there) == (6, 4, 0)
    assert not here.elsewhere and not there.elsewhere
    assert not there.cancel(0, 0)
    there.reserve(1, 5)
    assert there.cancel(1, 0) and counts(there) == (6, 4, 0)
    with pytest.raises(InvariantError, match="I3"):
        there.reserve(2, 7)
    there.clear()
    assert counts(there) == (10, 0, 0)


def test_what_was_never_taken_cannot_be_freed() -> None:
    kv, request = KvCache(10, 4, 0, 0), a_request()
    kv.admit(request, 3)
    kv.release(request)
    request.held_blocks = 3
    with pytest.raises(InvariantError, match="I3"):
        kv.release(request)


def test_shared_contents_are_counted_once_and_make_way() -> None:
    kv = KvCache(10, 4, 0, 0, PrefixCache(4, 4))
    one, two = a_request(13, (1, 2, 3)), a_request(13, (1, 2, 3))
    kv.admit(one, 4)
    one.computed_tokens = 13
    assert kv.prefix is not None
    kv.prefix.add(one)
    assert kv.admit(two, 4) and two.computed_tokens == 12 and two.held_blocks == 4
    assert counts(kv) == (5, 5, 0) and kv.shared_blocks(two) == 3
    kv.release(one)
    assert counts(kv) == (6, 4, 0)
    kv.release(two)
    assert counts(kv) == (10, 0, 0) and kv.spare_blocks == 7, "contents are kept in free blocks"
    three = a_request(13, (1, 2, 3))
    assert kv.cached_tokens(three) == 12
    kv.take(8)
    assert kv.cached_tokens(three) == 8, "the end of the prompt is forgotten first"
