"""What the simulator said: the run's own experiment rebuilt, or the model and profile that the user names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.calibration.replay.composition import chunks_of, contexts_of, pairs_of
from simserve.calibration.replay.plan import ReplayPlan, ReplayStep
from simserve.calibration.replay.sample import Steps, draw, read_steps, regimes
from simserve.contracts import CostModel, Slice, Step
from simserve.cost.host import HostOverheads
from simserve.errors import ConfigError
from simserve.hardware import HardwareProfile
from simserve.model import Parallel, load_model

if TYPE_CHECKING:
    from simserve.config.deployment import Deployment
    from simserve.config.engine_profile import EngineProfile

EXPERIMENT = "experiment.resolved.yaml"
SPREAD = 0.5
_COMMUNICATION = ("collective", "expert_exchange", "stage_transfer")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Which steps to replay, and on what.

    steps    a steps.parquet. An experiment.resolved.yaml beside it says model, layout, profile and engine; the rest here overrides it.
    sample   steps at most. spread: coefficient of variation of the context lengths of a decoding batch.
    """

    steps: Path
    model: str | None = None
    quantisation: str | None = None
    tp: int | None = None
    profile: str | None = None
    engine: str | None = None
    instance: int = 0
    sample: int = 120
    spread: float = SPREAD
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Setup:
    model: str
    quantisation: str | None
    tp: int
    ep: int
    cost: CostModel | None
    host: HostOverheads
    basis: str
    options: Mapping[str, Any] = field(default_factory=dict)


def make_plan(request: ReplayRequest) -> ReplayPlan:
    """Draw the steps and predict them. Raises ConfigError or ModelError when steps, model or profile are missing or contradict."""
    if request.sample < 1:
        raise ConfigError(f"--sample is {request.sample}, it must be at least 1")
    steps = read_steps(request.steps, request.instance)
    setup = _setup(request)
    generator = np.random.Generator(np.random.PCG64(request.seed))
    chosen = draw(steps, request.sample, generator)
    made = tuple(_step(setup, steps, int(i), request.spread, generator) for i in chosen)
    kind = regimes(steps)
    notes = [
        f"{sum(s.exact for s in made)} of {len(made)} steps have the run's own composition; the others are rebuilt from totals: "
        f"chunks of equal size and context, decoding contexts lognormal with a coefficient of variation of {request.spread:g}"
    ]
    if setup.tp > 1:
        notes.append(f"one of {setup.tp} tensor-parallel ranks is executed; communication is left out of both sides")
    if setup.cost is None and setup.tp > 1:
        notes.append("without a profile the prediction contains the communication that is not executed: expect it to be higher")
    if setup.options:
        changed = ", ".join(f"{name} {value}" for name, value in setup.options.items())
        notes.append(f"the prediction has the run's options ({changed}); the model is executed as published")
    counts = {name: int((kind == name).sum()) for name in np.unique(kind).tolist()}
    return ReplayPlan(setup.model, setup.quantisation, setup.tp, setup.ep, setup.basis, counts, tuple(notes), made)


def _step(setup: _Setup, steps: Steps, i: int, spread: float, generator: np.random.Generator) -> ReplayStep:
    requests, total = int(steps["decode_requests"][i]), int(steps["context_tokens"][i])
    pieces, tokens, pairs = (int(steps[f"prefill_{what}"][i]) for what in ("requests", "tokens", "pairs"))
    contexts, chunks = contexts_of(requests, total, spread, generator), chunks_of(pieces, tokens, pairs)
    simulated_s = float(steps["end_s"][i] - steps["start_s"][i])
    if setup.cost is None:
        host = setup.host
        host_s = host.per_step_s + requests * host.per_decode_request_s + tokens * host.per_prefill_token_s
        predicted_s = max(simulated_s - host_s, 0.0)
    else:
        step = Step.of(contexts, [Slice(new, context) for new, context in chunks])
        parts = setup.cost.breakdown(step)
        outside_s = parts.get("host", 0.0) + sum(parts.get(name, 0.0) for name in _COMMUNICATION)
        predicted_s = setup.cost.step_time(step) - outside_s
    # One request or chunk leaves nothing to guess; a single decoding request's context is the total.
    exact = requests <= 1 and pieces <= 1 and pairs_of(chunks) == pairs
    graph = (setup.host.graph_size(requests) or 0) if not chunks else 0
    return ReplayStep(request_number(steps, i), 0, int(steps["step"][i]), contexts, chunks, graph, simulated_s, predicted_s, exact)


def request_number(steps: Steps, i: int) -> int:
    """Instance of a step."""
    return int(steps["instance"][i])


def _setup(request: ReplayRequest) -> _Setup:
    beside = request.steps.parent / EXPERIMENT
    if request.model is None and not beside.is_file():
        raise ConfigError(f"{beside}: no such file, so the model is unknown; name it with --model (and --profile to predict with)")
    return _from_experiment(request, beside) if beside.is_file() and request.model is None else _from_options(request)


def _from_experiment(request: ReplayRequest, path: Path) -> _Setup:
    from simserve.config.assemble import deployment
    from simserve.config.experiment import load
    from simserve.config.python_names import WHATEVER

    experiment = load(path, given=WHATEVER)
    section = experiment.spec.model_section
    instances = [group for group in experiment.groups for _ in range(group.count)]
    if request.instance >= len(instances):
        raise ConfigError(f"{path}: describes {len(instances)} instances, there is no number {request.instance}")
    group = instances[request.instance]
    quantisation = request.quantisation or section.quantisation
    profile = request.profile or group.hardware
    model = load_model(section.name, base_dir=path.parent, quantisation=quantisation)
    of_run = deployment(experiment, group, model)
    deployed = replace(
        of_run,
        hardware=_hardware(profile, path.parent),
        parallel=Parallel(tp=request.tp or group.parallel.tp, ep=group.parallel.ep),
        published=None,  # kernels are what is executed, so kernel models are what is compared
        engine=of_run.engine if request.engine is None else _engine(request.engine),
    )
    return _setup_of(deployed, section.name, quantisation, f"kernel models of {profile}, experiment {experiment.name}")


def _from_options(request: ReplayRequest) -> _Setup:
    from simserve.config.deployment import Deployment, host_overheads

    assert request.model is not None
    engine = None if request.engine is None else _engine(request.engine)
    tp = request.tp or 1
    if request.profile is None:
        host = HostOverheads() if engine is None else host_overheads(engine)  # which device's hosts is not known
        basis = "step times of the run" + ("" if engine is None else f" less the host work of {request.engine}")
        return _Setup(request.model, request.quantisation, tp, 1, None, host, basis)
    model = load_model(request.model, base_dir=Path.cwd(), quantisation=request.quantisation)
    deployed = Deployment(model, _hardware(request.profile, Path.cwd()), Parallel(tp=tp), engine=engine)
    return _setup_of(deployed, request.model, request.quantisation, f"kernel models of {request.profile}")


def _setup_of(deployed: Deployment, model: str, quantisation: str | None, basis: str) -> _Setup:
    """One tensor-parallel rank of a deployment."""
    parallel = deployed.parallel
    return _Setup(model, quantisation, parallel.tp, parallel.ep, deployed.cost, deployed.host_overheads, basis, deployed.options.changed())


def _engine(name: str) -> EngineProfile:
    from simserve.config.engine_profile import load_engine

    return load_engine(name)


def _hardware(name: str, base_dir: Path) -> HardwareProfile:
    from simserve.config.hardware_file import hardware_path, profile_at

    path = hardware_path(name, base_dir)
    return profile_at(path, path.stat().st_mtime_ns)
