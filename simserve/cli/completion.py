"""What the shell offers for an argument: names of what is bundled. Without a match the shell goes on with files."""

from __future__ import annotations


def experiments(incomplete: str) -> list[str]:
    """Bundled experiments."""
    from simserve import resources

    return _beginning(resources.available("experiments"), incomplete)


def hardware(incomplete: str) -> list[str]:
    """Bundled hardware profiles."""
    from simserve import resources

    return _beginning(resources.available("hardware_profiles"), incomplete)


def models(incomplete: str) -> list[str]:
    """Bundled model architectures."""
    from simserve.model import model_names

    return _beginning(model_names(), incomplete)


def engines(incomplete: str) -> list[str]:
    """Engine profiles."""
    from simserve.config import engine_profile

    return _beginning(engine_profile.names(), incomplete)


def policies(incomplete: str) -> list[str]:
    """Policies of every kind that `simserve policies` describes."""
    from simserve.policies import registry

    return _beginning([*registry.scheduler_names(), *registry.router_names(), *registry.controller_names()], incomplete)


def changes(incomplete: str) -> list[str]:
    """`--set KEY=VALUE`: the sections of an experiment, and after the '=' of a few keys the names that they take."""
    key, equals, value = incomplete.partition("=")
    names = {"model": models, "hardware": hardware, "engine": engines}
    if equals:
        return [f"{key}={name}" for name in names[key](value)] if key in names else []
    from simserve.config.schema import ExperimentSpec

    return _beginning([f"{name}=" if name in names else name for name in ExperimentSpec.model_fields], incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
