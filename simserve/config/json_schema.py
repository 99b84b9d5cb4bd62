"""The JSON Schema of experiment files, with a branch for the parameters of every policy and the flags of every engine.

Editors with a YAML language server complete and check experiments with it.
"""

from __future__ import annotations

from typing import Any

from simserve.config import cost_models, engine_profile
from simserve.config.schema import ExperimentSpec
from simserve.policies import registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> dict[str, Any]:
    """Schema of a whole experiment."""
    schema = ExperimentSpec.model_json_schema()
    definitions = schema["$defs"]
    definitions["SchedulerSection"] = {
        "description": definitions["SchedulerSection"]["description"],
        "type": "object",
        "oneOf": [_policy("scheduler", name, registry.scheduler_class(name), {}, definitions) for name in registry.scheduler_names()]
        + [{"type": "object", "not": {"required": ["policy"]}, "description": "Parameters of the engine profile's own policy."}],
    }
    definitions["InstanceSection"]["properties"]["order"]["enum"] = registry.order_names()
    definitions["RouterSection"] = _router(definitions["RouterSection"], definitions)
    controllers = registry.controller_names()
    definitions["ControllerSection"] = {
        "description": definitions["ControllerSection"]["description"],
        "type": "object",
        "oneOf": [_policy("controller", name, registry.controller_class(name), {}, definitions) for name in controllers],
    }
    definitions["CostSection"] = _cost(definitions["CostSection"])
    definitions["EngineSection"] = _engine(definitions["EngineSection"], definitions)
    return {"$schema": _DIALECT, "title": "simserve experiment", **{key: value for key, value in schema.items() if key != "title"}}


def policy_schema(name: str) -> dict[str, Any]:
    """Schema of the parameters of one scheduling policy. Raises ConfigError for an unknown name."""
    return {"$schema": _DIALECT, **registry.scheduler_class(name).Params.model_json_schema(), "title": f"parameters of {name}"}


def _router(section: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The routers by name, each with its own parameters; without a name, those of the default."""
    names = registry.router_names()
    common = {key: value for key, value in section["properties"].items() if key != "policy"}
    common["decode_policy"]["enum"] = names
    branches = [_policy("router", name, registry.router_class(name), common, definitions) for name in names]
    unnamed = {"type": "object", "properties": common, "additionalProperties": False, "title": "the default router"}
    return {"description": section["description"], "type": "object", "oneOf": [*branches, unnamed]}


def _cost(section: dict[str, Any]) -> dict[str, Any]:
    """The cost models of installed packages, each with its own parameters; without one, published coefficients."""
    polynomial = {"polynomial": section["properties"]["polynomial"]}
    branches: list[dict[str, Any]] = [
        {"title": "coefficients", "type": "object", "properties": polynomial, "required": ["polynomial"], "additionalProperties": False}
    ]
    for name in cost_models.names():
        params = getattr(cost_models.cost_class(name), "Params", None)
        own = params.model_json_schema() if params else {"properties": {}}
        branches.append(
            {
                **own,
                "title": f"cost model {name}",
                "type": "object",
                "properties": {**polynomial, "model": {"const": name}, **own.get("properties", {})},
                "required": ["model", *own.get("required", ())],
                "additionalProperties": False,
            }
        )
    return {"description": section["description"], "type": "object", "oneOf": branches}


def _policy(kind: str, name: str, policy: Any, common: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A policy's parameters beside the `policy` key that selects it and the section's `common` keys."""
    params = policy.Params.model_json_schema()
    definitions.update({f"{name}.{key}": value for key, value in params.pop("$defs", {}).items()})
    definition = {
        **_renamed(params, name),
        "title": f"policy {name}",
        "properties": {"policy": {"const": name}, **common, **_renamed(params.get("properties", {}), name)},
        "required": ["policy", *params.get("required", ())],
    }
    definitions[f"{kind} {name}"] = definition
    return {"$ref": f"#/$defs/{kind} {name}"}


def _renamed(node: Any, prefix: str) -> Any:
    """References of a policy's schema, moved into the experiment's definitions."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", f"#/$defs/{prefix}.") if key == "$ref" else _renamed(value, prefix)
            for key, value in node.items()
        }
    return [_renamed(item, prefix) for item in node] if isinstance(node, list) else node


def _flags(sets: dict[str, str]) -> dict[str, Any]:
    """Flags and the parts of those that hold a mapping, which may also be given as JSON text."""
    found: dict[str, Any] = {}
    for flag, key in sets.items():
        head, _, part = flag.partition(".")
        says = {"description": f"Sets {key} of every instance."}
        if not part:
            found[flag] = says
            continue
        whole = found.setdefault(head, {"type": ["object", "string"], "properties": {}, "additionalProperties": False})
        whole["properties"][part] = says
    return found


def _engine(section: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The engines by name, each with its own flags; a path to the user's own profile takes any flag."""
    own = engine_profile.EngineOverrides.model_json_schema()
    definitions.update(own.pop("$defs", {}))
    branches: list[dict[str, Any]] = []
    for name in engine_profile.names():
        profile = engine_profile.load_engine(name)
        flags = _flags(profile.all_flags())
        branches.append(
            {
                "title": f"engine {name}",
                "type": "object",
                "properties": {"name": {"const": name, "description": profile.description}, **flags, **own["properties"]},
                "required": ["name"],
                "additionalProperties": False,
            }
        )
    own_file = {"type": "object", "properties": {"name": {"type": "string", "pattern": r"\.ya?ml$"}}, "required": ["name"]}
    return {"description": section["description"], "oneOf": [*branches, own_file]}
