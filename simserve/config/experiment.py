"""An experiment, loaded: validated, every default filled in, ready to run or to write down again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simserve import resources
from simserve.bounds import STREAM_ABOVE
from simserve.config import (
    cluster,
    cost_models,
    engine_flags,
    engine_jitter,
    engine_profile,
    instances,
    overrides,
    prices,
    provisioning,
    renamed_keys,
    speculation,
)
from simserve.config.cluster import ClusterPolicies
from simserve.config.cost_models import CostChoice
from simserve.config.cost_section import CostSection
from simserve.config.engine_profile import EngineOverrides, EngineProfile
from simserve.config.instances import InstanceGroup
from simserve.config.paths import (
    coefficients_file,
    coefficients_reference,
    find_experiment,
    hardware_reference,
    model_reference,
    trace_reference,
)
from simserve.config.prices import Rates
from simserve.config.prices_section import PricesSection
from simserve.config.python_names import Arguments
from simserve.config.schema import ExperimentSpec
from simserve.errors import SimserveError
from simserve.files import messages, yaml_text
from simserve.files.messages import Mistake
from simserve.files.yaml_text import Document, KeyPath


@dataclass(frozen=True, slots=True)
class Experiment:
    """What to simulate. `spec` is what was written, `engine` and `groups` have every default filled in.

    `base_dir` is where relative paths in the experiment start: the folder of its file, or the current directory for one made in Python.
    """

    spec: ExperimentSpec
    name: str
    base_dir: Path
    engine: EngineProfile
    groups: tuple[InstanceGroup, ...]
    policies: ClusterPolicies
    document: Document
    cost_model: CostChoice | None = None
    old_keys: tuple[str, ...] = ()
    """A sentence for each key that was given under the name of an earlier version."""

    @property
    def bundled_engine(self) -> bool:
        """Whether its engine profile is one that ships with simserve."""
        return engine_profile.find(self.spec.engine_section.name, self.base_dir).parent == engine_profile.FOLDER

    def resolved(self) -> dict[str, Any]:
        """The experiment with everything explicit, as plain values: loading it again gives the same run, from any folder.

        Bundled models, hardware profiles, engines and traces keep their names; files of the user's become absolute paths.
        """
        spec = self.spec
        model = spec.model_section
        workload = spec.workload.model_dump(mode="json", exclude_none=True) if spec.workload else {}
        hardware, groups = hardware_reference(spec.hardware, self.base_dir), [group.resolved() for group in self.groups]
        for group in groups:
            group["hardware"] = hardware_reference(group["hardware"], self.base_dir)
            if "draft" in group.get("speculation", {}):
                group["speculation"]["draft"] = model_reference(group["speculation"]["draft"], self.base_dir)
        nodes = provisioning.resolved(spec.cluster.node_pools, spec.hardware, self.base_dir)
        pools = {"node_pools": nodes} if nodes else {}
        return {
            "name": self.name,
            **({"description": spec.description} if spec.description else {}),
            "model": {
                **model.model_dump(exclude={"options"}, exclude_none=True),
                "name": model_reference(model.name, self.base_dir),
                **({} if model.options.is_plain else {"options": model.options.changed()}),
            },
            "hardware": hardware,
            "engine": {
                "name": _engine_reference(spec.engine_section.name, self.base_dir),
                "host": self.engine.host.model_dump(exclude_none=True),
                "request_path": self.engine.request_path.model_dump(),
                **self._resolved_jitter(),
                "cuda_graph_sizes": list(self.engine.cuda_graph_sizes),
            },
            **({} if spec.cost is None else {"cost": self._resolved_cost(spec.cost)}),
            "cluster": {"instances": groups, **pools, **cluster.resolved(spec.cluster, self.policies)},
            **({"workload": _with_trace_paths(workload, self.base_dir)} if workload else {}),
            **({"probes": {name: probe.model_dump(exclude_defaults=True) for name, probe in spec.probes.items()}} if spec.probes else {}),
            "slo": {key: value for key, value in spec.slo.model_dump(exclude_none=True).items() if value != {}},
            **({} if spec.prices is None else {"prices": self._resolved_prices(spec.prices)}),
            "metrics": spec.metrics.model_dump(),
            "output": spec.output.model_dump(),
            "fast_forward": spec.fast_forward,
            "seed": spec.seed,
            **({"intervals": spec.intervals} if spec.intervals else {}),
            **({} if spec.until_s is None else {"until_s": spec.until_s}),
            **({} if spec.stream_above == STREAM_ABOVE else {"stream_above": spec.stream_above}),
        }

    def _resolved_jitter(self) -> dict[str, Any]:
        if self.engine.jitter is not None:
            return {"jitter": self.engine.jitter.model_dump()}
        learned = engine_profile.load_engine(self.spec.engine_section.name, self.base_dir).jitter
        return {} if learned is None else {"jitter": False}

    def _resolved_cost(self, section: CostSection) -> dict[str, Any]:
        named = {} if section.polynomial is None else {"polynomial": coefficients_reference(section.polynomial, self.base_dir)}
        return named | ({} if self.cost_model is None else self.cost_model.resolved())

    def _resolved_prices(self, section: PricesSection) -> dict[str, Any]:
        written = section.model_dump(exclude_unset=True, exclude_none=True)
        return written | ({} if section.file is None else {"file": str(prices.price_file(section, self.base_dir))})

    def rates(self, *, required: bool | None = None) -> Rates:
        """What its devices cost an hour. Raises ConfigError where a price is asked for (`required`) and missing."""
        return prices.rates(self.spec.prices, [group.hardware for group in self.groups], self.base_dir, required=required)

    def fingerprint(self) -> str:
        """sha256 (hex) of what determines the results: the resolved experiment, the content of the files it names, simserve's version.

        Equal fingerprints mean equal results. Name, description and `output` do not count.
        """
        from simserve.version import __version__

        resolved = self.resolved()
        meaning = {key: value for key, value in resolved.items() if key not in ("name", "description", "output")}
        files = {str(path): _sha256(path, path.stat().st_mtime_ns, path.stat().st_size) for path in self._files(resolved)}
        text = json.dumps({"version": __version__, "experiment": meaning, "files": files}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _files(self, resolved: Mapping[str, Any]) -> list[Path]:
        found = [engine_profile.find(self.spec.engine_section.name, self.base_dir)]
        for name in sorted({resolved["hardware"], *(group["hardware"] for group in resolved["cluster"]["instances"])}):
            found.append(Path(name) if Path(name).is_absolute() else resources.find("hardware_profiles", name))
        found.append(prices.price_file(self.spec.prices, self.base_dir))
        if "polynomial" in resolved.get("cost", {}):
            found.append(coefficients_file(resolved["cost"]["polynomial"]))
        drafts = {group["speculation"]["draft"] for group in resolved["cluster"]["instances"] if "draft" in group.get("speculation", {})}
        found += [Path(name) for name in (resolved["model"]["name"], *sorted(drafts)) if Path(name).is_absolute()]
        for path in _trace_paths(resolved.get("workload")):
            found.append(Path(path) if Path(path).is_absolute() else resources.find_trace(path))
        return found


class Source(NamedTuple):
    """An experiment as it is written, before any change: `folder` is where its relative paths start."""

    document: Document
    folder: Path
    default_name: str


def read(source: str | Path | Mapping[str, Any], base_dir: Path | None = None) -> Source:
    """What stands in a YAML file (or a bundled one by name), or in a mapping of the same keys. Raises ConfigError."""
    if isinstance(source, Mapping):
        text = yaml_text.dump(yaml_text.plain(source, "experiment"))
        return Source(yaml_text.parse(text, "experiment"), base_dir or Path.cwd(), "experiment")
    path = find_experiment(source)
    return Source(yaml_text.read(path), base_dir or path.resolve().parent, path.name.split(".")[0])


def load(
    source: str | Path | Mapping[str, Any] | Source,
    changes: Iterable[str] | Mapping[str, Any] = (),
    *,
    base_dir: Path | None = None,
    given: Arguments | None = None,
) -> Experiment:
    """The experiment in a YAML file (or the name of a bundled one, or a mapping of the same keys, or what was read of one), with changes
    applied.

    `changes` are 'path.to.key=value' strings, or a mapping from dotted path to value. `given`: policy objects that the run will have, so
    that an experiment that names such objects of an earlier run is read. Raises ConfigError listing every mistake found.
    """
    document, folder, default_name = source if isinstance(source, Source) else read(source, base_dir)
    document, of_document = renamed_keys.current(document)
    changes, of_changes = renamed_keys.in_changes(changes)
    document, inside = renamed_keys.current(overrides.apply(document, changes))
    if given is not None:
        document = overrides.apply(document, given.placeholders(document.data))
    engine, of_engine = _engine(document, folder)
    if engine is not None:
        said, found = engine_flags.experiment_flags(document, engine.flag_rules)
        if said is not document:
            document, (engine, of_engine) = said, _engine(said, folder)
        of_engine += found
    section, mistakes = messages.check(ExperimentSpec, document.data, document)
    mistakes += of_engine
    groups: list[InstanceGroup] = []
    if engine is not None:
        groups, found = _groups(document, engine, folder)
        mistakes += found
    policies, found = cluster.complete(document)
    mistakes += found
    cost_model, found = cost_models.complete(document)
    mistakes += found
    mistakes += _names(document, folder)
    messages.fail(document.source, mistakes)
    assert isinstance(section, ExperimentSpec) and engine is not None and policies is not None
    alone = provisioning.misfits(document, section.cluster, section.hardware, groups)
    messages.fail(document.source, [*cluster.misfits(document, section.cluster, policies, groups), *alone])
    old_keys = tuple(dict.fromkeys((*of_document, *of_changes, *inside)))
    name = section.name or default_name
    experiment = Experiment(section, name, folder, engine, tuple(groups), policies, document, cost_model, (*old_keys, *engine.ignored))
    messages.fail(document.source, [*_layouts(experiment), *_prices(experiment)])
    return experiment


def _engine(document: Document, folder: Path) -> tuple[EngineProfile | None, list[Mistake]]:
    section = document.data.get("engine", "vllm-v1")
    name = section.get("name") if isinstance(section, Mapping) else section
    if not isinstance(name, str):
        return None, []  # the schema's own complaint says it
    try:
        profile = engine_profile.load_engine(name, folder)
    except SimserveError as error:
        return None, [messages.at(document, ("engine", "name") if isinstance(section, Mapping) else ("engine",), str(error))]
    of_paper = document.data.get("paper") is not None
    if isinstance(section, Mapping):
        own = {key: section[key] for key in engine_profile.OWN_KEYS if key in section}
        changed, mistakes = messages.check(EngineOverrides, own, document, ("engine",))
        if isinstance(changed, EngineOverrides):
            host = profile.host if changed.host is None else profile.host.model_copy(update=changed.host.model_dump(exclude_unset=True))
            sizes = profile.cuda_graph_sizes if changed.cuda_graph_sizes is None else changed.cuda_graph_sizes
            path = profile.request_path
            if changed.request_path is not None:
                path = path.restated(changed.request_path)
            jitter = None
            try:
                jitter = engine_jitter.chosen(changed.jitter, profile.jitter, of_paper=of_paper)
            except ValueError as problem:
                mistakes = [*mistakes, messages.at(document, ("engine", "jitter"), str(problem))]
            profile = profile.model_copy(update={"host": host, "request_path": path, "cuda_graph_sizes": sizes, "jitter": jitter})
        return profile, mistakes
    jitter = engine_jitter.chosen(None, profile.jitter, of_paper=of_paper)
    return profile.model_copy(update={"jitter": jitter}), []


def _groups(document: Document, engine: EngineProfile, folder: Path) -> tuple[list[InstanceGroup], list[Mistake]]:
    section = document.data.get("cluster")
    items = section.get("instances", [{}]) if isinstance(section, Mapping) else [{}]
    groups: list[InstanceGroup] = []
    mistakes: list[Mistake] = []
    for index, raw in enumerate(items if isinstance(items, list) else []):
        if not isinstance(raw, Mapping):
            continue
        try:
            group, found = instances.complete(raw, index, engine, document, folder)
        except ValueError:
            continue  # the group breaks the schema itself, which has been reported
        mistakes += found
        if group is not None:
            groups.append(group)
    return groups, mistakes


def _names(document: Document, folder: Path) -> list[Mistake]:
    """Models and hardware profiles that do not exist."""
    data, mistakes = document.data, []
    model = data.get("model")
    path: tuple[str | int, ...] = ("model", "name") if isinstance(model, Mapping) else ("model",)
    name = model.get("name") if isinstance(model, Mapping) else model
    if isinstance(name, str):
        from simserve.model import load_model

        try:
            load_model(name, base_dir=folder)
        except SimserveError as error:
            mistakes.append(messages.at(document, path, str(error)))
    cost = data.get("cost")
    coefficients = cost.get("polynomial") if isinstance(cost, Mapping) else None
    if isinstance(coefficients, str):
        try:
            coefficients_reference(coefficients, folder)
        except SimserveError as error:
            mistakes.append(messages.at(document, ("cost", "polynomial"), str(error)))
    for path, name in _hardware_names(data):
        if isinstance(name, str):
            try:
                hardware_reference(name, folder)
            except SimserveError as error:
                mistakes.append(messages.at(document, path, str(error)))
    return mistakes


def _hardware_names(data: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], Any]]:
    found: list[tuple[tuple[str | int, ...], Any]] = [(("hardware",), data.get("hardware"))]
    section = data.get("cluster")
    items = section.get("instances") if isinstance(section, Mapping) else None
    for index, raw in enumerate(items if isinstance(items, list) else []):
        if isinstance(raw, Mapping):
            found.append((("cluster", "instances", index, "hardware"), raw.get("hardware")))
    return found


def _layouts(experiment: Experiment) -> list[Mistake]:
    """Parallel layouts that the model cannot take (tp that does not divide the heads, more stages than layers)."""
    from simserve.model import load_model
    from simserve.model.layout import Parallel, check

    section = experiment.spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir)
    mistakes = []
    for index, group in enumerate(experiment.groups):
        try:
            check(model, Parallel(**group.parallel.model_dump()))
        except SimserveError as error:
            mistakes.append(messages.at(experiment.document, ("cluster", "instances", index, "parallel"), str(error)))
        wrong = group.speculation and speculation.misfit(group.speculation, model, group.max_model_len, experiment.base_dir)
        if wrong:
            path: KeyPath = ("cluster", "instances", index, "speculation", wrong[0])
            if path not in experiment.document.places and isinstance(experiment.document.data.get("speculation"), Mapping):
                path = ("speculation", wrong[0])
            mistakes.append(messages.at(experiment.document, path, wrong[1]))
    return mistakes


def _prices(experiment: Experiment) -> list[Mistake]:
    """A price list that cannot be read, or devices without a price where one is asked for."""
    try:
        experiment.rates()
    except SimserveError as error:
        return [messages.at(experiment.document, ("prices",), str(error))]
    return []


def _engine_reference(name: str, folder: Path) -> str:
    path = engine_profile.find(name, folder)
    return path.stem if path.parent == engine_profile.FOLDER else str(path)


def _with_trace_paths(node: Any, folder: Path) -> Any:
    if isinstance(node, Mapping):
        return {
            key: trace_reference(value, folder) if key == "path" and isinstance(value, str) else _with_trace_paths(value, folder)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_trace_paths(item, folder) for item in node]
    return node


def _trace_paths(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        own = [node["path"]] if isinstance(node.get("path"), str) else []
        return own + [path for value in node.values() for path in _trace_paths(value)]
    return [path for item in node for path in _trace_paths(item)] if isinstance(node, list) else []


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    """Digest of a file's content, remembered while its time and size stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
