"""Sections that few experiments state: their modules are loaded when one does. Preparing a section takes a thousandth of a second, and
those of an experiment file are sixty."""

from __future__ import annotations

import functools
import importlib
from typing import Any, ClassVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class _Later:
    """Stands for a section in annotations: its values are validated, written and described as those of the section itself."""

    module: ClassVar[str]

    @classmethod
    def section(cls) -> type[BaseModel]:
        """The section itself."""
        found: type[BaseModel] = getattr(importlib.import_module(cls.module), cls.__name__)
        return found

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        known_as = f"{cls.module}.{cls.__name__}:{id(cls)}"  # pydantic's form, by which the JSON Schema calls it
        return core_schema.no_info_plain_validator_function(lambda value: cls.section().model_validate(value), ref=known_as)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(_nameless(cls.section().__pydantic_core_schema__))


def _nameless(schema: Any) -> Any:
    """The schema of a section without the name by which other schemas know it: the stand-in has one."""
    if schema["type"] == "definitions":
        return {**schema, "schema": _nameless(schema["schema"])}
    return {key: value for key, value in schema.items() if key != "ref"}


@functools.lru_cache(maxsize=32)
def later(module: str, name: str) -> Any:
    """The section `name` of `simserve.config.<module>` as an annotation, loaded with its first value. Each section has one stand-in, by
    which the JSON Schema knows it."""
    return type(name, (_Later,), {"module": f"simserve.config.{module}"})
