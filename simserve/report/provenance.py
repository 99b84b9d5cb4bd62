"""What was simulated and what was not validated, read from the descriptions that cost models ship with a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simserve.contracts.policies import FROM_PYTHON
from simserve.engine.records import RunRecords
from simserve.report.drafts import speculates


def simulated(records: RunRecords) -> list[dict[str, Any]]:
    """One entry per group of identical instances: their names, policy, devices, KV space and the description of the cost model."""
    groups: list[dict[str, Any]] = []
    for info in records.instances:
        facts = {
            "policy": info.policy,
            "devices": info.devices,
            "kv_blocks": info.kv_blocks,
            "block_tokens": info.block_tokens,
            "max_seqs": info.max_seqs,
            "peak_flops_per_s": info.peak_flops_per_s,
            "cost": info.cost,
        }
        for group in groups:
            if all(group[key] == value for key, value in facts.items()):
                group["instances"].append(info.name)
                break
        else:
            groups.append({"instances": [info.name], **facts})
    return groups


def _descriptions(records: RunRecords) -> list[dict[str, Any]]:
    """The descriptions of the cost models, in order; what instances of a group share stands once."""
    return list({id(info.cost): info.cost for info in records.instances}.values())


def operators(cost: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(operator, dtype, measured with, points, error on measurements not fitted) of each fitted operator that a description lists."""
    rows = []
    for entry in cost.get("operators") or []:
        if not isinstance(entry, dict) or "operator" not in entry:
            continue
        kernel = f" {entry['kernel']}" if entry.get("kernel") else ""
        errors = entry.get("check_mape_percent") or {}
        error = ", ".join(f"{value:.1f} % ({kind})" for kind, value in errors.items()) if isinstance(errors, dict) else f"{errors:.1f} %"
        points = f"{entry['points']:,}" if isinstance(entry.get("points"), int) else "–"
        rows.append(
            (f"{entry['operator']}{kernel}", str(entry.get("dtype", "")), str(entry.get("backend", "")), points, error or "not stated")
        )
    return rows


_SAID = {"measured": "measured", "fitted": "fitted on serving runs", "assumed": "assumed"}


def efficiencies(records: RunRecords) -> list[str]:
    """One sentence for each group of instances whose operators have stated efficiencies instead of tables: which of them are measured,
    fitted on serving runs and assumed, with the widest error that is stated."""
    sentences: dict[str, None] = {}
    for cost in _descriptions(records):
        of_status: dict[str, dict[str, float | None]] = {status: {} for status in _SAID}
        entries = cost.get("efficiencies") or []
        for entry in entries:
            known, name = of_status[entry["status"]], entry["operator"]
            if len({other["status"] for other in entries if other["operator"] == name}) > 1:
                name = f"{name} {entry['dtype']}"
            known[name] = max(known.get(name) or 0.0, entry["error_percent"] or 0.0) or None
        parts = [
            f"{words}: {', '.join(f'{name} ({error:.0f} %)' if error else name for name, error in sorted(of_status[status].items()))}"
            for status, words in _SAID.items()
            if of_status[status]
        ]
        if parts:
            sentences[f"Operators of {cost.get('hardware', 'this device')} by what stands behind them - {'; '.join(parts)}."] = None
    return list(sentences)


def compared(records: RunRecords) -> list[str]:
    """One sentence for each group of instances whose engine, device and model were compared with measured runs, with the errors."""
    sentences: dict[str, None] = {}
    without = " without speculative decoding" if speculates(records) else ""
    for cost in _descriptions(records):
        runs = cost.get("measured_runs")
        if isinstance(runs, dict) and runs.get("validated"):
            metrics = [
                f"{name} {entry['median_percent']:.0f} %"
                for name, entry in sorted(runs.get("metrics", {}).items())
                if isinstance(entry, dict) and entry.get("median_percent") is not None
            ]
            if metrics:
                name = str(runs["name"])
                name = name.replace("serving runs of", "serving run of", 1) if runs["rows"] == 1 else name
                sentences[f"Median error on {runs['rows']} measured {name}{without}: {', '.join(metrics)}."] = None
    return list(sentences)


def instance_notes(records: RunRecords) -> list[str]:
    """Where an instance is not what the engine would have, each sentence once."""
    return list(dict.fromkeys(note for cost in _descriptions(records) for note in cost.get("notes", ())))


def models_taken(records: RunRecords) -> list[str]:
    """What names of models and drafts that are not those of the bundled ones were taken for, each sentence once."""
    described = [part for cost in _descriptions(records) for part in (cost, cost.get("draft")) if isinstance(part, dict)]
    return list(dict.fromkeys(str(part["model_taken"]) for part in described if "model_taken" in part))


def from_python(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The policy objects that a run was given from Python: where its resolved experiment names them, class, module and parameters."""
    cluster = experiment.get("cluster") or {}
    groups = enumerate(cluster.get("instances") or ())
    sections = [(f"cluster.instances.{i}.scheduler", group.get("scheduler") or {}) for i, group in groups]
    router = cluster.get("router") or {}
    own = {key: value for key, value in router.items() if key not in ("decode_policy", "refresh_s")}
    sections += [("cluster.router", own), ("cluster.router.decode_policy", {"policy": router.get("decode_policy")})]
    found = []
    for key, section in sections:
        policy = section.get("policy")
        if isinstance(policy, str) and policy.startswith(FROM_PYTHON):
            module, _, name = policy.removeprefix(FROM_PYTHON).partition(":")
            parameters = {key: value for key, value in section.items() if key != "policy"}
            found.append({"key": key, "class": name, "module": module, "parameters": parameters})
    return found


def unvalidated(records: RunRecords) -> list[str]:
    """What the results rest on that was never compared with a measurement, in order, without repeats.

    A description says so by a list under the key `unvalidated` (of names, or of mappings with a `name`), or by `validated: false` beside an
    entry, which is then named by the keys that lead to it.
    """
    found: dict[str, None] = {}
    for cost in _descriptions(records):
        found.update(dict.fromkeys(_unvalidated(cost, "")))
    return list(found)


def _unvalidated(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("validated") is False:
            yield str(node.get("name") or node.get("operator") or path or "cost model")
        for key, value in node.items():
            if key == "unvalidated" and isinstance(value, list | tuple):
                for item in value:
                    yield str(item.get("name") or item.get("operator") or item) if isinstance(item, dict) else str(item)
            elif key == "unvalidated" and value is True:
                yield path or "cost model"
            else:
                yield from _unvalidated(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _unvalidated(item, path)
