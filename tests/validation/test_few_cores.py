"""A server with fewer CPU cores than device processes does their host work one after the other."""

from __future__ import annotations

from builders import case

from simserve.cost.host import HostOverheads
from simserve.validation import physical
from simserve.validation.few_cores import on_its_cores
from simserve.validation.machine import Overheads
from simserve.validation.predict import predict

KNOWN = Overheads(HostOverheads(per_step_s=2e-3, per_decode_request_s=1e-5, kernel_launch_s=2e-5), 4e-3, 1e-6, 1e-5, 2e-3, api_servers=1)


def test_runs_with_a_core_for_each_process_are_as_they_were() -> None:
    for settings in ({}, {"host_cores": 8}, {"host_cores": 64}):
        assert on_its_cores(case(tp=8, settings=settings), KNOWN) is KNOWN
    assert on_its_cores(case(settings={"host_cores": 1}), KNOWN) is KNOWN, "one process needs one core"


def test_two_cores_of_eight_processes_take_four_times_as_long() -> None:
    slow = on_its_cores(case(tp=4, dp=2, settings={"host_cores": 2}), KNOWN)
    assert slow == Overheads(
        HostOverheads(per_step_s=8e-3, per_decode_request_s=4e-5, kernel_launch_s=8e-5), 16e-3, 4e-6, 4e-5, 8e-3, api_servers=1
    )


def test_what_hides_behind_steps_comes_to_light() -> None:
    hidden = Overheads(HostOverheads(per_step_s=1e-4))
    host = on_its_cores(case(tp=8, settings={"host_cores": 1}), hidden).host
    assert host.per_step_s == 8 * physical.RANGES["per_step_s"].typical_s
    assert host.kernel_launch_s == 8 * physical.RANGES["kernel_launch_s"].typical_s


def test_a_host_that_costs_nothing_goes_on_costing_nothing() -> None:
    free = Overheads(HostOverheads(kernel_launch_s=0.0))
    assert on_its_cores(case(tp=8, settings={"host_cores": 1}), free) is free


def test_its_tokens_come_later() -> None:
    one, all_cores = (predict(case(tp=8, settings=settings), KNOWN) for settings in ({"host_cores": 1}, {}))
    assert one["tpot_mean"] > all_cores["tpot_mean"] + 7 * KNOWN.host.per_step_s
    assert one["ttft_mean"] > all_cores["ttft_mean"] + 7 * (KNOWN.request_s + KNOWN.request_delay_s)
