"""The JSON schema of the configuration, for editors: with the options of installed plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from . import discovery
from .discovery import NotAPlugin
from .registry import Table
from .settings import Settings, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from .plugin import Plugin


def schema() -> dict[str, Any]:
    """The schema of a whole file.  This imports the installed plugins."""
    plugins = dict(_importable())
    models: list[type[BaseModel]] = [Settings, Upstream, Table]
    models += [plugin.Config for plugin in plugins.values()]
    references, document = models_json_schema([(model, "validation") for model in models])
    definitions = document["$defs"]

    def definition(model: type[BaseModel]) -> dict[str, Any]:
        found: dict[str, Any] = definitions[references[model, "validation"]["$ref"].split("/")[-1]]
        return found

    common, settings = definition(Table), definition(Settings)
    definition(Upstream).pop("required")  # a variable or a flag may name it
    tables = [
        _installed(name, plugin, common, definition(plugin.Config))
        for name, plugin in plugins.items()
    ]
    settings["properties"]["plugins"]["items"] = {"anyOf": [*tables, _local(common)]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of dragoman",
        "type": "object",
        "properties": settings["properties"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _importable() -> Iterator[tuple[str, type[Plugin[Any]]]]:
    for point in discovery.installed():
        try:
            yield point.name, discovery.find(point.name, Path())
        except NotAPlugin:
            continue  # `dragoman plugins` says why


def _installed(
    name: str, plugin: type[Plugin[Any]], common: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """The table of an installed plugin: the common keys, with its own defaults, and its options."""
    defaults = {"timeout": plugin.timeout, "on_error": plugin.on_error, "name": name}
    properties = {
        key: {**value, "default": defaults[key]} if key in defaults else value
        for key, value in common["properties"].items()
    }
    return {
        "type": "object",
        "title": name,
        "description": plugin.__doc__ or "",
        "properties": {**properties, "use": {"const": name}, **options.get("properties", {})},
        "required": ["use", *options.get("required", ())],
        "additionalProperties": options.get("additionalProperties", False),
    }


def _local(common: dict[str, Any]) -> dict[str, Any]:
    """The table of a plugin in a file, whose options nobody knows here."""
    return {
        "type": "object",
        "title": "a plugin in a file",
        "properties": {**common["properties"], "use": {"type": "string", "pattern": r"\.py:\w+$"}},
        "required": ["use"],
    }
