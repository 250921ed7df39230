"""What a session has to know of one message."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

Message: TypeAlias = Mapping[str, Any]

SYSTEM = ("system", "developer")
RESULTS = ("tool", "function")

_ASIDE = ("cache_control", "prompt_cache_breakpoint")


def role_of(message: Message) -> str:
    role = message.get("role")
    return role if isinstance(role, str) else ""


def meaning(message: Message) -> tuple[Any, ...]:
    """What is equal for messages that mean the same.

    Clients send a history back with differences that mean nothing: a string or the one text part
    that holds it, nulls, `refusal`, `annotations`, reasoning, cache marks, white space at the ends
    and inside a call's arguments.  None of them counts.
    """
    get = message.get
    return (
        get("role"),
        _content(get("content")) or _content(get("refusal")),
        [_call(call) for call in calls_of(message)],
        _call({"function": get("function_call")}) if get("function_call") else None,
        get("tool_call_id"),
        get("name"),
    )


def text_of(message: Message) -> str | None:
    """The text of a message that is nothing else."""
    content = _content(message.get("content"))
    return content if isinstance(content, str) else None


def calls_of(message: Message) -> list[Mapping[str, Any]]:
    """The tool calls."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []


def _content(content: Any) -> Any:
    if content is None:
        return ""
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    if len(parts) == 1 and isinstance(parts[0], dict) and set(parts[0]) == {"type", "text"}:
        return _content(parts[0]["text"])
    return parts


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return {name: v for name, v in part.items() if v is not None and name not in _ASIDE}


def _call(call: Mapping[str, Any]) -> tuple[Any, ...]:
    function = call.get("function") or call.get("custom") or {}
    if not isinstance(function, Mapping):
        return call.get("id"), function
    arguments = function.get("arguments", function.get("input"))
    with suppress(msgspec.DecodeError, TypeError, RecursionError):
        arguments = msgspec.json.decode(arguments)
    return call.get("id"), function.get("name"), arguments
