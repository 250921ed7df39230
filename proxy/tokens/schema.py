"""Renders JSON schemas the way the server shows them to a model.

Parameters of functions become TypeScript, formats of answers become JSON.  The layout was worked
out from recorded usage: each rule here decides about some tokens of some request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .count import Doubt
from .lenient import mapping, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Schema = dict[str, Any]

# Keywords that are shown behind a type: `string, // format: "date"`.
_NOTED = (
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
)

# No recorded usage tells how these are shown.
_UNSEEN = frozenset(_NOTED[1:]) | {"oneOf", "allOf", "const", "patternProperties", "prefixItems"}

_SIMPLE = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}

_DEEPEST = 50
_TYPE_WORK = 100  # characters that are counted in the time it takes to render a type


class _Shape(NamedTuple):
    """A type, the comments above it and the notes behind it."""

    comments: list[str]
    type: str
    notes: list[str]

    @property
    def is_plain(self) -> bool:
        return not self.comments and not self.notes and "\n" not in self.type

    @property
    def trailing(self) -> str:
        return f" // {', '.join(self.notes)}" if self.notes else ""


class TypeScript:
    """Renders the parameters of a function.

    References can make a small schema endless.  So `may_spend` is asked before each type whether
    there is room for so many characters of work; if it refuses, the type is `any`.
    """

    def __init__(
        self, parameters: Schema, may_spend: Callable[[int], bool], *, comments_nested: bool
    ) -> None:
        self.doubt = Doubt.NONE
        self._parameters = parameters
        self._definitions = mapping(parameters, "$defs") or mapping(parameters, "definitions")
        self._may_spend = may_spend
        self._comments_nested = comments_nested
        self._open: list[str] = []  # the references that are being rendered

    def parameter(self) -> str:
        """What stands between the function's parentheses."""
        if not mapping(self._parameters, "properties"):
            return ""
        if title := text(self._parameters, "title"):
            return f"_: // {title}\n{self._object(self._parameters, in_one_line=False)}"
        return f"_: {self._object(self._parameters)}"

    def _shape(self, schema: Schema, *, is_member: bool = False) -> _Shape:
        size = _TYPE_WORK + len(text(schema, "title")) + len(text(schema, "description"))
        if not self._may_spend(size):
            self.doubt = Doubt.GREAT
            return _Shape([], "any", [])
        keys = ("default", *_NOTED) if is_member else _NOTED
        notes = [f"{key}: {json.dumps(schema[key])}" for key in keys if key in schema]
        comments = [] if self._open and not self._comments_nested else _comments(schema)
        shape = _Shape(comments, self._type(schema), notes)
        self._may_spend(sum(map(len, notes)))
        return shape

    def _type(self, schema: Schema) -> str:
        if not _UNSEEN.isdisjoint(schema):
            self.doubt = max(self.doubt, Doubt.LITTLE)
        reference = text(schema, "$ref")
        if (reference and reference in self._open) or len(self._open) > _DEEPEST:
            self.doubt = Doubt.GREAT
            return "any"
        self._open.append(reference)
        try:
            return self._union(schema) or self._literal(schema) or self._named(schema)
        finally:
            self._open.pop()

    def _literal(self, schema: Schema) -> str:
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if not isinstance(values, list):
            return ""
        literal = " | ".join(map(json.dumps, values))
        self._may_spend(len(literal))
        return literal

    def _named(self, schema: Schema) -> str:
        match schema.get("type"):
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case str(name) if name in _SIMPLE:
                return _SIMPLE[name]
            case _:
                return "any"

    def _union(self, schema: Schema) -> str:
        variants = [self._shape(variant) for variant in self._variants(schema)]
        if all(variant.is_plain for variant in variants):
            return " | ".join(variant.type for variant in variants)
        lines = [
            line
            for variant in variants
            for line in (*variant.comments, f" | {variant.type}{variant.trailing}")
        ]
        return "\n".join(["", *lines, ""])

    def _variants(self, schema: Schema) -> Iterable[Schema]:
        if isinstance(types := schema.get("type"), list):
            # Each keeps the description: it is shown with the property and with every variant.
            single = {**schema, "$ref": None}
            return [{**single, "type": name} for name in types if isinstance(name, str)]
        variants = schema.get("anyOf") or schema.get("oneOf")
        return map(self._resolved, variants) if isinstance(variants, list) else ()

    def _array(self, schema: Schema) -> str:
        if "items" not in schema:
            return "any[]"
        items = self._shape(self._resolved(schema["items"]))
        if items.is_plain:
            if "|" in items.type:
                self.doubt = max(self.doubt, Doubt.LITTLE)  # not in recorded usage
            return f"{items.type}[]"
        lines = [*items.comments, items.type.strip("\n") + items.trailing]
        return "\n".join(["Array<", *lines, ">"])

    def _object(self, schema: Schema, *, in_one_line: bool = True) -> str:
        members = self._members(schema)
        if not members:
            return "object"
        shapes = members.values()
        if in_one_line and all(shape.is_plain and "{" not in shape.type for shape in shapes):
            return f"{{ {', '.join(f'{name}: {shape.type}' for name, shape in members.items())} }}"
        lines = [
            line
            for name, shape in members.items()
            for line in (*shape.comments, _line(name, shape))
        ]
        return "\n".join(["{", *lines, "}"])

    def _members(self, schema: Schema) -> dict[str, _Shape]:
        listed = schema.get("required")
        required = (
            {name for name in listed if isinstance(name, str)}
            if isinstance(listed, list)
            else set()
        )
        return {
            name if name in required else f"{name}?": self._shape(
                self._resolved(member), is_member=True
            )
            for name, member in mapping(schema, "properties").items()
        }

    def _resolved(self, schema: Any) -> Schema:
        """The schema, with what it refers to: its own words stand above those."""
        if not isinstance(schema, dict):
            self.doubt = Doubt.GREAT
            return {}
        if isinstance(reference := schema.get("$ref"), str):
            name = reference.rpartition("/")[2]
            if name in self._definitions:
                return {**self._resolved(self._definitions[name]), **schema}
        if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            return {**self._resolved(parts[0]), **schema}
        return schema


def answer_format(json_schema: Schema) -> str:
    """The section of the instructions that asks for an answer in a format."""
    description = text(json_schema, "description")
    note = f"// {description}\n" if description else ""
    described = json.dumps(_described(json_schema.get("schema")), separators=(",", ":"))
    return f"# Response Formats\n\n## {text(json_schema, 'name')}\n\n{note}{described}"


# What a model is told of the format.  The rest (`required`, `default`, `maxItems`) only binds the
# answer, and is not shown.
_TOLD = frozenset(
    {
        "$defs",
        "$ref",
        "allOf",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "items",
        "oneOf",
        "properties",
        "title",
        "type",
    }
)


def _described(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_described(variant) for variant in schema]
    if not isinstance(schema, dict):
        return schema
    told: Schema = {}
    for key, value in schema.items():
        if key not in _TOLD:
            continue
        if key in {"properties", "$defs", "definitions"} and isinstance(value, dict):
            told[key] = {name: _described(named) for name, named in value.items()}
        else:
            told[key] = value if key in {"enum", "const"} else _described(value)
    return told


def comment(words: str) -> list[str]:
    """The lines of a text as comments: each without its indentation."""
    return [f"// {line.strip()}".rstrip() for line in words.strip().split("\n")]


def _comments(schema: Schema) -> list[str]:
    title, description = text(schema, "title"), text(schema, "description")
    lines = comment(title) if title else []
    if title and description:
        lines.append("//")
    return lines + comment(description) if description else lines


def _line(name: str, shape: _Shape) -> str:
    gap = "" if shape.type.startswith("\n") else " "
    return f"{name}:{gap}{shape.type},{shape.trailing}"
