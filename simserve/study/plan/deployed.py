"""A plan search's answer as what to type."""

from __future__ import annotations

from dataclasses import replace

from simserve.config.experiment import Experiment
from simserve.deploy.launch import launch
from simserve.errors import ConfigError
from simserve.study.plan.result import PlanResult


def deployed(result: PlanResult, answer: Experiment, node_devices: int) -> PlanResult:
    """The result with command lines and manifests of its answer; for an engine that none are written for, with a note that says so."""
    try:
        return replace(result, launch=launch(answer, node_devices=node_devices))
    except ConfigError as problem:
        return replace(result, search_notes=(*result.search_notes, f"no command lines: {problem}"))
