"""Attention of a step as tiles dealt to cores: the step's attention takes as long as its slowest core (XY-Serve, arXiv 2412.18106)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts import Slice, Step
from simserve.cost.cores.deal import slowest_core_s
from simserve.cost.cores.options import TaskTable
from simserve.cost.cores.pipeline import score_parts
from simserve.cost.cores.separate import Separate
from simserve.cost.cores.table import DECODING, PREFILL, VERIFYING, Rows, decoding_rows, tiles, token_table
from simserve.cost.decode import DecodeAttention
from simserve.cost.kernels import KernelChoice
from simserve.hardware.device import DTYPE_BYTES
from simserve.model.operators import Attention

F64 = NDArray[np.float64]

_REFERENCE_TOKENS = 8192
"""Prompt at which a core's efficiency is read off the profile's prefill kernel: enough tiles that cores end together, and a floor of
microseconds does not count."""


class Rates(NamedTuple):
    """What one core does in a second, and what all of them share."""

    cores: int
    flops: float
    hbm_bytes: float
    """Of one core; infinite where no figure is known: then only all cores together are bound."""
    l2_bytes: float
    shared_hbm_bytes: float
    floor_s: float


class LayerTiles:
    """One attention layer of one rank.

    A core takes the longer of two times for a tile: multiplying its rows with its keys, padding included, at the efficiency that the
    profile's prefill kernel reaches, and reading them: from HBM for a sequence's only tile of a head unit, from the L2 cache where other
    tiles of the sequence read them too. All cores together read every sequence's keys and values from HBM at least once.
    """

    def __init__(self, kernels: KernelChoice, layer: Attention, options: TaskTable, max_context_tokens: int) -> None:
        self._layer = layer
        self._options = options
        self._by_query_head = options.head_units == "query-heads"
        self._units = layer.q_heads if self._by_query_head else layer.kv_heads
        self._group = 1 if self._by_query_head else layer.q_heads // layer.kv_heads
        self._key_bytes = 2.0 * layer.head_dim * DTYPE_BYTES[layer.dtype]
        self._l2_bytes = kernels.profile.device.l2_bytes
        self.rates = self._measure(kernels, max_context_tokens)

    def _measure(self, kernels: KernelChoice, max_context_tokens: int) -> Rates:
        layer, device, options = self._layer, kernels.profile.device, self._options
        cores = options.cores or device.sms
        peak = device.peak(layer.dtype) / device.sms
        tokens = min(_REFERENCE_TOKENS, max(max_context_tokens, 64))
        heads = {name: float(getattr(layer, name)) for name in ("head_dim", "window_tokens")}
        heads |= {"num_q_heads": float(layer.q_heads), "num_kv_heads": float(layer.kv_heads)}
        prefill = kernels.operator("attention_prefill", layer.dtype, kv_dtype=layer.dtype)
        long, short = (float(prefill.seconds(new_tokens=float(n), **heads)[0]) for n in (tokens, 1))
        prompt = token_table(Step(0, slices=[Slice(tokens, 0)]), options)
        cut = tiles(prompt, layer.window_tokens)
        flops = self._units * float(self._flops(self._queries(prompt)[cut.row], cut.keys.astype(np.float64)).sum())
        reached = flops / (long - short) if long > short else device.peak(layer.dtype)
        known = device.core
        return Rates(
            cores,
            min(reached / device.sms, peak),
            known.hbm_bytes_per_s if known else np.inf,
            known.l2_bytes_per_s if known else np.inf,
            device.hbm_share * device.hbm_bytes_per_s,
            short,
        )

    def seconds(self, rows: Rows) -> float:
        """Seconds of one kernel over these rows (at least one)."""
        rates = self.rates
        times, loads = self._tiles(rows)
        if self._options.split_keys and len(times) < rates.cores:
            parts = rates.cores // len(times)
            times, loads = np.repeat(times / parts, parts), np.repeat(loads / parts, parts)
        slowest = slowest_core_s(times, rates.cores, self._options.reorder, loads)
        return rates.floor_s + max(slowest, self._read_bytes(rows) / rates.shared_hbm_bytes)

    def _tiles(self, rows: Rows) -> tuple[F64, F64]:
        """Seconds and load (tile rows x keys, as in the paper) of every tile of every head unit, in arrival order."""
        cut = tiles(rows, self._layer.window_tokens)
        keys = cut.keys.astype(np.float64)
        queries = self._queries(rows)[cut.row]
        reading = np.where(cut.only, self.rates.hbm_bytes, self.rates.l2_bytes)
        times = np.maximum(self._flops(queries, keys) / self.rates.flops, self._key_bytes * keys / reading)
        times = times + score_parts(queries, keys, self.rates.cores, self._l2_bytes) * self._update_s(queries)
        loads = rows.tile_rows[cut.row] * keys
        # A GPU's grid has the head as its slowest dimension; a task table lists the heads of a tile together.
        spread = np.tile if self._by_query_head else np.repeat
        return spread(times, self._units), spread(loads, self._units)

    def _queries(self, rows: Rows) -> F64:
        """Query rows of one tile of each row: the heads of one KV head share it. A decode packs them into as few of the smallest tiles as
        they need."""
        smallest = self._options.decode_tile_rows
        packed = -(-self._group // smallest) * smallest
        return np.where(rows.tokens == 1, packed, rows.tile_rows * self._group).astype(np.float64)

    def _flops(self, queries: F64, keys: F64) -> F64:
        """FLOPs of tiles, their padding included."""
        block = float(self._options.key_tile_tokens)
        return 4.0 * self._layer.head_dim * queries * (np.ceil(keys / block) * block)

    def _update_s(self, queries: F64) -> F64:
        """Seconds to rescale a tile's output once: read and written in 4 bytes an element, through the L2 cache."""
        return queries * (8.0 * self._layer.head_dim / self.rates.l2_bytes)

    def _read_bytes(self, rows: Rows) -> float:
        """Keys and values that are read from HBM: of each sequence once, or more often where query heads of a group read them at different
        times and the cache does not keep them."""
        window, read = self._layer.window_tokens, rows.kv_tokens
        if window:
            read = np.minimum(read, window + rows.tokens - 1)
        of_one_head = self._key_bytes * float(read.sum())
        once = of_one_head * self._layer.kv_heads
        if not self._by_query_head or of_one_head <= self._l2_bytes:
            return once
        group = self._layer.q_heads // self._layer.kv_heads
        together = self.rates.cores / float((-(-rows.tokens // rows.tile_rows)).sum())
        return once * group / min(max(together, 1.0), group)


class TiledAttention:
    """All attention layers of one stage.

    decode  the stage's decode kernels, where they were measured: a step that only decodes is then one of the shapes they were measured at
            (split over the cores by the kernel's own rule), and takes their time
    """

    def __init__(
        self,
        kernels: KernelChoice,
        layers: Iterable[tuple[Attention, int]],
        options: TaskTable,
        max_context_tokens: int,
        decode: DecodeAttention | None,
    ) -> None:
        self._options = options
        counted: dict[Attention, int] = {}
        for layer, count in layers:
            counted[layer] = counted.get(layer, 0) + count
        self._layers = [(LayerTiles(kernels, layer, options, max_context_tokens), count) for layer, count in counted.items()]
        self._decode = decode if all(kernels.measured("attention_decode", layer.dtype) for layer in counted) else None
        device = kernels.profile.device
        self._apart = [(Separate(device, layer, options), count) for layer, count in counted.items()]
        kernels.assume("attention as tiles dealt to cores (task_table)")

    def seconds(self, step: Step) -> float:
        """Seconds of the step's attention (0 for an empty step)."""
        if not step.decodes and not step.slices:
            return 0.0
        if self._decode is not None and not step.slices and not step.drafted_tokens:
            batch, longest = self._decode.seconds(step.decodes, step.context_tokens), self._decode.seconds(1, step.longest_tokens)
            return max(batch, longest)
        return self._of(token_table(step, self._options))

    def decode_seconds(self, step: Step, steps: int) -> list[float]:
        """Seconds of so many decode-only steps of one batch whose contexts grow by a token a step; bit-identical to `seconds`."""
        if self._decode is not None:
            return [self.seconds(step.after(i)) for i in range(steps)]
        contexts = np.array(step.contexts(), dtype=np.int64)
        return [self._of(decoding_rows(contexts + i, self._options)) for i in range(steps)]

    def _of(self, rows: Rows) -> float:
        if self._options.launches == "together":
            return sum(count * layer.seconds(rows) for layer, count in self._layers)
        return sum(count * self._separate(layer, apart, rows) for (layer, count), (apart, _) in zip(self._layers, self._apart, strict=True))

    def _separate(self, layer: LayerTiles, apart: Separate, rows: Rows) -> float:
        """Seconds of one layer whose phases are kernels of their own, one after the other."""
        phases = [own for phase in (PREFILL, VERIFYING, DECODING) if len((own := rows.of(phase)).tokens)]
        seconds = apart.moving_s(rows, len(phases))
        for own in phases:
            by_mfu = apart.computing_s(own)
            seconds += layer.seconds(own) if by_mfu is None else layer.rates.floor_s + by_mfu
        return seconds
