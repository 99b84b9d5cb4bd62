"""Servers with fewer CPU cores than device processes: host work is done one after the other, and none of it hides behind a step.

An engine runs a process for each device. Each prepares its inputs and launches its kernels, all at the same time where there is a core
for each, and a profile's `per_step_s` is what is left of that where the next step is prepared while one runs. With `cores` cores for
`processes` processes all of it takes processes / cores times as long, and so does the API server's work. Which runs those are is stated
(`Case.settings["host_cores"]`) and never learned from their times.
"""

from __future__ import annotations

from dataclasses import replace

from simserve.validation import physical
from simserve.validation.case import Case
from simserve.validation.machine import Overheads


def on_its_cores(case: Case, overheads: Overheads) -> Overheads:
    """The overheads of a run on the cores that it states; unchanged where it states none, or one for each process.

    What a profile hides behind steps is taken as usual work (`physical.RANGES`): a step of 0.8 ms, 10 us a kernel outside graphs. A host
    that costs nothing (an error budget's) goes on costing nothing.
    """
    cores, host = case.settings.get("host_cores"), overheads.host
    processes = case.tp * case.pp * case.dp
    if not cores or cores >= processes or not host.per_step_s:
        return overheads
    slowdown = processes / cores
    step, launch = (physical.RANGES[name].typical_s for name in ("per_step_s", "kernel_launch_s"))
    whole = replace(host, per_step_s=max(step, host.per_step_s), kernel_launch_s=max(launch, host.kernel_launch_s or 0.0))
    return replace(
        overheads,
        host=whole.on(1.0 / slowdown),
        request_s=overheads.request_s * slowdown,
        request_per_prompt_token_s=overheads.request_per_prompt_token_s * slowdown,
        request_per_output_token_s=overheads.request_per_output_token_s * slowdown,
        request_delay_s=overheads.request_delay_s * slowdown,
    )
