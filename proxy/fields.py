"""What a pydantic model takes at a place inside it: which keys, and which types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from .document import Place


def keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a model's table, by the names that stand in the file."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        yield alias if isinstance(alias, str) else name, field


def keys_at(model: type[BaseModel], place: Place) -> set[str]:
    """The keys that the table at a place may have."""
    return {
        key
        for kind in types_at(model, place)
        if issubclass(kind, BaseModel)
        for key, _ in keys(kind)
    }


def holds_secret(model: type[BaseModel], place: Place) -> bool:
    """Whether what stands at a place may be somebody's secret."""
    return any(
        issubclass(kind, (Secret, SecretBytes, SecretStr)) for kind in types_at(model, place)
    )


def types_at(model: type[BaseModel], place: Place) -> set[type]:
    """The classes that the value at a place may be made of; of all members where it is a union."""
    found: set[type] = {model}
    for part in place:
        annotations = [
            field.annotation
            for kind in found
            if issubclass(kind, BaseModel)
            for key, field in keys(kind)
            if key == part
        ]
        if annotations:  # else it is an index or a key of a dict, whose types were found with it
            found = {kind for annotation in annotations for kind in _classes(annotation)}
    return found


def _classes(annotation: Any) -> Iterator[type]:
    """The classes in a type: dict, str, int and NoneType for `dict[str, int] | None`."""
    origin = get_origin(annotation)
    if isinstance(origin or annotation, type):
        yield origin or annotation
    for argument in get_args(annotation):
        yield from _classes(argument)
