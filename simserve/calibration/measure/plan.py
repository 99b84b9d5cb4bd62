"""The list of points: which operators, which shapes, in which order. Deterministic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simserve.calibration.measure import sizes
from simserve.calibration.measure.model_shapes import Shapes
from simserve.calibration.measure.operators.elementwise import OPS
from simserve.calibration.measure.operators.launch import CLASSES
from simserve.calibration.measure.points import COLLECTIVES, OPERATORS, Point, Value, point
from simserve.calibration.measure.sizes import Scale

TOP_LEVEL = 2

QUICK_ROWS = 80
"""Points of one kernel that a quick measurement takes at least: a fit needs 60 rows (`calibration.fit.MIN_TREE_ROWS`), and some points do
not fit the memory or are too fast to be believed."""

_BY_TREES = ("gemm", "attention_prefill", "attention_decode", "elementwise", "moe")
"""Operators that are fitted by trees; a curve of message sizes needs a few points only."""


class Planner:
    """Makes points for one device.

    dtypes      types of GEMMs, attention (16 bit ones) and so on; the first is also that of the element-wise operators
    modes       `graph`, `eager` or both, for kernels that can be captured
    attention   attention implementations, see `attention_kernels`
    groups      sizes of process groups for collectives
    """

    def __init__(self, scale: Scale, dtypes: tuple[str, ...], modes: tuple[str, ...], attention: tuple[str, ...], groups: tuple[int, ...]):
        self.scale, self.dtypes, self.modes, self.attention, self.groups = scale, dtypes, modes, attention, groups

    def points(self, operators: tuple[str, ...], top_level: int, shapes: Shapes | None = None, *, least: int = 0) -> list[Point]:
        """All points up to `top_level`, coarse first, each once. `shapes` of models replace the general ones.

        least  of a kernel that has fewer points than this, so many, if there are: some of the finer levels, evenly spread
        """
        shapes = shapes or self._general_shapes()
        every: dict[str, Point] = {}
        for name in operators:
            for made in self._of(name, shapes):
                if made.key not in every or every[made.key].level > made.level:
                    every[made.key] = made
        found = {key: made for key, made in every.items() if made.level <= top_level}
        if least:
            for made in _topped_up(list(every.values()), top_level, least):
                found[made.key] = made
        place = {name: i for i, name in enumerate(OPERATORS)}
        return sorted(found.values(), key=lambda p: (p.level, place[p.operator]))  # stable: a shape's sizes stay together

    def _general_shapes(self) -> Shapes:
        s = self.scale
        gemm = {(n, k, dtype): level for dtype in self.dtypes for (n, k), level in s.gemm}
        return Shapes(gemm, dict(s.layouts), dict(s.dimensions), {(e, d): level for d in self._floats() for e, level in s.experts})

    def _floats(self) -> tuple[str, ...]:
        return tuple(d for d in self.dtypes if d in ("bf16", "fp16", "fp32")) or ("bf16",)

    def _of(self, name: str, shapes: Shapes) -> Iterator[Point]:
        if name in COLLECTIVES:
            return self._collective(name)
        makers: dict[str, Any] = {
            "gemm": lambda: self._gemm(shapes),
            "attention_prefill": lambda: self._prefill(shapes),
            "attention_decode": lambda: self._decode(shapes),
            "elementwise": lambda: self._elementwise(shapes),
            "moe": lambda: self._moe(shapes),
            "host_copy": self._host_copy,
            "launch_overhead": self._launch,
            "hbm_stream": self._stream,
        }
        made: Iterator[Point] = makers[name]()
        return made

    def _gemm(self, shapes: Shapes) -> Iterator[Point]:
        for (n, k, dtype), shape_level in shapes.gemm.items():
            for m, level in sizes.tokens(self.scale.max_tokens).items():
                for mode in self.modes:
                    yield point("gemm", shape_level + level, m=m, n=n, k=k, dtype=dtype, mode=mode)

    def _prefill(self, shapes: Shapes) -> Iterator[Point]:
        s = self.scale
        news = {n: level for n, level in sizes.tokens(s.max_tokens).items() if n >= 16}
        for layout, shape_level in shapes.layouts.items():
            for new, level in news.items():
                yield from self._attention("attention_prefill", shape_level + level, layout, batch=1, new_tokens=new, prefix_tokens=0)
            for batch in (2, 4, 8, 16, 64):
                for new in (n for n, level in news.items() if level == 0 and n * batch <= 2 * s.max_tokens):
                    yield from self._attention("attention_prefill", shape_level + 1, layout, batch=batch, new_tokens=new, prefix_tokens=0)
            for prefix in (p for p in (64, 256, 1024, 4096, 16384, 65536) if p <= s.max_context):
                for new in (n for n, level in news.items() if level == 0 and n <= s.max_tokens // 2):
                    level = 0 if prefix in (1024, 16384) and new in (128, 512, 2048) else 1
                    inputs = {"batch": 1, "new_tokens": new, "prefix_tokens": prefix}
                    yield from self._attention("attention_prefill", shape_level + level, layout, **inputs)

    def _decode(self, shapes: Shapes) -> Iterator[Point]:
        s = self.scale
        batches = _levels((1, 4, 16, 64, 256), (2, 8, 32, 128, 512), (3, 12, 24, 48, 96, 160, 192, 384))
        contexts = _levels(
            (128, 512, 2048, 8192, 32768),
            (16, 256, 1024, 4096, 16384, 65536, 131072),
            (64, 129, 384, 768, 1025, 1536, 3072, 6144, 12288, 24576),
        )
        for layout, shape_level in shapes.layouts.items():
            for batch, batch_level in batches.items():
                for context, level in contexts.items():
                    if batch <= s.max_batch and context <= s.max_context and batch * context <= s.max_kv_tokens:
                        inputs = {"batch": batch, "kv_tokens": context}
                        yield from self._attention("attention_decode", shape_level + max(level, batch_level), layout, **inputs)

    def _attention(self, name: str, level: int, layout: sizes.Layout, **inputs: int) -> Iterator[Point]:
        heads = {"num_q_heads": layout.q_heads, "num_kv_heads": layout.kv_heads, "head_dim": layout.head_dim}
        for dtype in self._floats():
            for implementation in self.attention:
                for mode in self.modes:
                    kind = {"dtype": dtype, "kv_dtype": dtype, "implementation": implementation, "mode": mode}
                    yield point(name, level, **inputs, **heads, window_tokens=layout.window_tokens, **kind)

    def _elementwise(self, shapes: Shapes) -> Iterator[Point]:
        for d, shape_level in shapes.dimensions.items():
            for op in OPS:
                for m, level in sizes.tokens(self.scale.max_tokens).items():
                    for mode in self.modes:
                        # In the row of the rotary embedding `hidden_size` is the width of the query heads: readers take their size from it.
                        hidden = d.num_heads * d.head_dim if d.head_dim and op == "attn_rope" else d.hidden_size
                        columns: dict[str, Value] = {
                            "tensor_parallel": d.tensor_parallel,
                            "hidden_size": hidden,
                            "mlp_hidden_size": d.mlp_hidden_size,
                        }
                        heads = {"num_heads": d.num_heads, "num_kv_heads": d.num_kv_heads}
                        kind: dict[str, str] = {"dtype": self._floats()[0], "model": d.model, "mode": mode}
                        yield point("elementwise", shape_level + level, op=op, num_tokens=m, **columns, **heads, **kind)

    def _moe(self, shapes: Shapes) -> Iterator[Point]:
        for (e, dtype), shape_level in shapes.experts.items():
            for m, level in sizes.tokens(self.scale.max_tokens).items():
                for mode in self.modes:
                    split = {"tensor_parallel": e.tensor_parallel, "expert_parallel": e.expert_parallel}
                    shape = {"hidden_size": e.hidden_size, "inter_size": e.inter_size, "topk": e.topk, "num_experts": e.num_experts}
                    yield point("moe", shape_level + level, num_tokens=m, **shape, **split, distribution="balanced", dtype=dtype, mode=mode)

    def _collective(self, name: str) -> Iterator[Point]:
        for ranks in self.groups if name != "p2p" else self.groups[:1]:
            for size, level in sizes.message_bytes(self.scale.max_bytes // 4).items():
                for mode in self.modes:
                    where: dict[str, Value] = {"collective": name, "num_gpus": ranks, "num_nodes": 1, "message_bytes": size}
                    yield point(name, level, **where, dtype=self._floats()[0], mode=mode)

    def _host_copy(self) -> Iterator[Point]:
        for direction in ("h2d", "d2h"):
            for memory in ("pinned", "pageable"):
                for size, level in sizes.message_bytes(self.scale.max_bytes).items():
                    yield point("host_copy", level, direction=direction, memory=memory, size_bytes=size, mode="eager")

    def _launch(self) -> Iterator[Point]:
        for mode in ("eager", "graph") if "graph" in self.modes else self.modes:
            for kernel_class in CLASSES:
                for length, level in ((1, 0), (16, 0), (128, 0), (2, 1), (4, 1), (8, 1), (32, 1), (64, 1), (256, 2)):
                    yield point("launch_overhead", level, kernel_class=kernel_class, chain_length_kernels=length, mode=mode)

    def _stream(self) -> Iterator[Point]:
        for op in ("copy", "read", "write"):
            for size, level in sizes.message_bytes(self.scale.max_bytes).items():
                if size >= 1 << 16:
                    yield point("hbm_stream", level, op=op, size_bytes=size, mode=self.modes[0])


def _topped_up(every: list[Point], top_level: int, least: int) -> Iterator[Point]:
    """Points above `top_level` of the kernels that have too few up to it."""
    kernels: dict[tuple[Any, ...], list[Point]] = {}
    for one in every:
        if one.operator in _BY_TREES:
            kernel = (one.operator, *(one.values.get(name) for name in ("dtype", "op", "implementation", "mode")))
            kernels.setdefault(kernel, []).append(one)
    for points in kernels.values():
        missing = least - sum(one.level <= top_level for one in points)
        for level in range(top_level + 1, TOP_LEVEL + 1):
            finer = [one for one in points if one.level == level]
            if missing <= 0 or not finer:
                continue
            taken = min(missing, len(finer))
            yield from (finer[i * len(finer) // taken] for i in range(taken))
            missing -= taken


def _levels(*sizes: tuple[int, ...]) -> dict[int, int]:
    return {size: level for level, group in enumerate(sizes) for size in group}
