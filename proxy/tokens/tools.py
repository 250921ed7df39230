"""Renders the functions offered to a model, and its calls of them, as the server does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .count import Doubt
from .lenient import decode, mapping, mappings, text
from .schema import TypeScript, comment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .models import Template

PARALLEL = "multi_tool_use.parallel"
"""The function that stands for several calls at once."""

_LONGEST_REWRITTEN = 100_000  # characters; longer arguments and results are taken as they are


class Namespace(NamedTuple):
    """The functions offered to a model, as a section of its instructions."""

    text: str
    doubt: Doubt
    is_described: bool  # at least one function has a description


def namespace(
    settings: Mapping[str, Any], may_spend: Callable[[int], bool], template: Template
) -> Namespace | None:
    """Render the `tools` of a request, or its `functions`; None if there are none."""
    functions, custom = _offered(settings)
    doubt = Doubt.GREAT if custom else Doubt.NONE
    types = []
    for function in functions + custom:
        parameters = TypeScript(
            mapping(function, "parameters"), may_spend, comments_nested=template.comments_nested
        )
        types.append(_type(function, parameters.parameter()))
        doubt = max(doubt, parameters.doubt)
    if not types:
        return None
    body = "\n\n".join(types)
    return Namespace(
        f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{body}\n\n}} // namespace functions",
        doubt,
        any(text(function, "description") for function in functions + custom),
    )


def _offered(settings: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The functions, and the tools that are something else, as functions."""
    functions, custom = mappings(settings, "functions"), []
    for tool in mappings(settings, "tools"):
        if function := mapping(tool, "function"):
            functions.append(function)
        else:
            custom.append(_as_function(mapping(tool, "custom")))
    return functions, custom


def _type(function: Mapping[str, Any], parameter: str) -> str:
    description = text(function, "description")
    lines = comment(description) if description else []
    return "\n".join([*lines, f"type {text(function, 'name')} = ({parameter}) => any;"])


def _as_function(custom: Mapping[str, Any]) -> dict[str, Any]:
    # One recorded request has such a tool: its grammar is shown in full.
    grammar = mapping(mapping(custom, "format"), "grammar")
    description = f"{text(custom, 'description')}\n{text(grammar, 'definition')}"
    return {"name": text(custom, "name"), "description": description}


class Call(NamedTuple):
    """A call of a function by the model."""

    id: str
    name: str
    arguments: str


def calls(message: Mapping[str, Any]) -> list[Call]:
    """The calls in an assistant's message, in the form of today or of 2023."""
    found = []
    for call in mappings(message, "tool_calls"):
        if function := mapping(call, "function") or mapping(call, "custom"):
            arguments = text(function, "arguments") or text(function, "input")
            found.append(Call(text(call, "id"), text(function, "name"), arguments))
    if function := mapping(message, "function_call"):
        found.append(Call("", text(function, "name"), text(function, "arguments")))
    return found


def recipient(calls: Sequence[Call]) -> str:
    """Whom calls are addressed to."""
    return f"functions.{calls[0].name}" if len(calls) == 1 else PARALLEL


def arguments(calls: Sequence[Call]) -> str:
    """What the recipient gets: compact JSON."""
    if len(calls) > 1:
        uses = [
            {"recipient_name": recipient([call]), "parameters": _decoded(call.arguments)}
            for call in calls
        ]
        return _compact({"tool_uses": uses})
    value = _decoded(calls[0].arguments)
    return value if isinstance(value, str) else _compact(value)


def results(contents: Sequence[str]) -> tuple[str, Doubt]:
    """What calls made at once have returned: one JSON array in ASCII."""
    values = [_decoded(content) for content in contents]
    is_structured = [isinstance(value, (dict, list)) for value in values]
    shown = [
        value if structured else content
        for value, content, structured in zip(values, contents, is_structured, strict=True)
    ]
    return json.dumps(shown), Doubt.LITTLE if any(is_structured) else Doubt.NONE


def _decoded(words: str) -> Any:
    if len(words) > _LONGEST_REWRITTEN:
        return words
    try:
        return decode(words)
    except (ValueError, RecursionError):
        return words


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
