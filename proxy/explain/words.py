"""What a message says, as plain text.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTENTS = ("content", "refusal", "tool_calls", "function_call")
"""The fields of a message that `spoken` reads."""

_MEDIA = {"image_url": "image", "input_audio": "audio"}


def role(message: Mapping[str, Any]) -> str:
    value = message.get("role")
    return value if isinstance(value, str) else "?"


def spoken(message: Mapping[str, Any]) -> str:
    """Its text, a word in brackets for each part that is none, and its calls of tools."""
    return "\n".join(text for text in _lines(message) if text)


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        yield _part(part)
    yield _text(message.get("refusal"))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        yield _call(call)
    if isinstance(message.get("function_call"), dict):
        yield _call({"function": message["function_call"]})


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return _text(part)
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return _text(part.get(kind))
    return f"[{_MEDIA.get(kind, kind) if isinstance(kind, str) else '?'}]"


def _call(call: Any) -> str:
    """`get_weather({"city": "Bern"})`; also of tools that take a text and no arguments."""
    if not isinstance(call, dict):
        return _text(call)
    called = call.get("function") or call.get("custom")
    if not isinstance(called, dict):
        return f"[{_text(call.get('type')) or '?'}]"
    given = called.get("arguments", called.get("input"))
    return f"{_text(called.get('name'))}({_text(given)})"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
