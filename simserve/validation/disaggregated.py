"""Prefill and decode on different workers: the instances of such a run, and when its clients see tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simserve.engine import InstanceSpec
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, LinkSpec
from simserve.errors import ConfigError
from simserve.model import Parallel, load_model, rank_kv_bytes_per_token
from simserve.policies import registry
from simserve.validation.case import Case, Pool
from simserve.validation.devices import device_profile
from simserve.validation.machine import Overheads, build_instance
from simserve.validation.metrics import step_starts_s


def build_instances(case: Case, overheads: Overheads | None = None) -> list[InstanceSpec]:
    """The instances of a case: one, or those of its two pools.

    Raises SimserveError like `build_instance`.
    """
    if case.pools is None:
        return [build_instance(case, overheads)]
    prefill, decode = case.pools
    link = _link(case, prefill)
    prefills = [replace(spec, role="prefill", link=link) for spec in _workers(case, prefill, "prefill", overheads)]
    return prefills + [replace(spec, role="decode") for spec in _workers(case, decode, "decode", overheads)]


def routed() -> ClusterSpec:
    """How the workers of a pool share its requests: in turn, and prefilled ones where fewest are."""
    first, second = registry.router_class("round-robin"), registry.router_class("least-outstanding")
    return ClusterSpec(router=first(first.Params()), decode_router=second(second.Params()))


def _workers(case: Case, pool: Pool, role: str, overheads: Overheads | None) -> list[InstanceSpec]:
    """Alike but for their names; policies may keep state, so each worker gets its own."""
    settings = case.settings if pool.max_seqs is None else case.settings | {"max_seqs": pool.max_seqs}
    one = replace(case, tp=pool.tp, pp=1, dp=pool.dp, ep=pool.ep, settings=settings)
    return [replace(build_instance(one, overheads), name=f"{role} {i}") for i in range(pool.workers)]


def _link(case: Case, prefill: Pool) -> LinkSpec:
    """How KV leaves a prefill worker: every rank sends what it holds through its own NIC.

    The workers of these runs fill whole nodes (eight devices or more each), so KV leaves the node; NVLink does not reach.
    Raises ConfigError for a device without a network.
    """
    network = device_profile(case.gpu).device.network
    if network is None:
        raise ConfigError(f"{case.gpu}: its profile states no network for KV to leave a node")
    model = load_model(case.model, quantisation=case.quantisation)
    held_bytes = rank_kv_bytes_per_token(model, Parallel(prefill.tp, 1, prefill.dp, prefill.ep))
    # with data-parallel attention a request's KV is on one rank, and the ranks' NICs serve different requests
    return LinkSpec(bytes_per_s=network.bytes_per_s * prefill.dp, latency_s=network.latency_s, kv_bytes_per_token=held_bytes)


def as_clients_see(records: RunRecords, specs: Sequence[InstanceSpec]) -> RunRecords:
    """The records with each first token at the time when its client gets it.

    SGLang's decode worker sends the first token too: it is streamed when the request, its KV arrived, joins the decoding batch
    (sglang/srt/disaggregation/decode.py, `process_prebuilt`), at the start of the step that computes the second token.
    """
    seen, sent = records.requests.first_token_s.copy(), records.emissions
    for index, lane in enumerate(records.lanes):
        if specs[lane.instance].role != "decode":
            continue
        starts = step_starts_s(lane)[np.repeat(lane.span_decode_requests > 0, lane.span_steps)]
        decoded = (sent.last_tick >= sent.first_tick) | np.isfinite(sent.prefill_end_s)  # a step with drafted tokens has no ticks
        segments = np.flatnonzero((sent.lane == index) & decoded & ~sent.of_prefill())[::-1]
        seen[sent.request[segments]] = starts[sent.first_tick[segments]]  # from the last to the first: a request's first segment stays
    return replace(records, requests=replace(records.requests, first_token_s=seen))
