"""What compression has to know of one message: its text, and a digest that stands for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

Message: TypeAlias = Mapping[str, Any]

HEAD_ROLES = ("system", "developer")
_TEXTS = {"text": "text", "input_text": "text", "refusal": "refusal"}


def role_of(message: Message) -> str:
    role = message.get("role")
    return role if isinstance(role, str) else ""


def text_of(message: Message) -> str:
    """The text a reader sees.  Other parts stand there by their name in brackets: `[image]`."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(filter(None, map(_text_of_part, content)))


def _text_of_part(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    kind = part.get("type")
    if kind in _TEXTS:
        text = part.get(_TEXTS[kind])
        return text if isinstance(text, str) else ""
    return f"[{kind.removeprefix('input_').removesuffix('_url')}]" if isinstance(kind, str) else ""


def calls_of(message: Message) -> list[tuple[str, str, str]]:
    """The id, the name and the arguments of each tool call."""
    calls = message.get("tool_calls")
    found = []
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            function = call.get("function") or call.get("custom") or {}
            if isinstance(function, dict):
                arguments = function.get("arguments", function.get("input", ""))
                found.append((str(call.get("id")), str(function.get("name")), str(arguments)))
    return found


def digest_of(message: Message) -> bytes:
    """32 bytes that are equal for messages that mean the same to a model.

    Clients send a history back with differences that mean nothing: a string or the one text part
    that holds it, nulls, `refusal`, `annotations`, reasoning, cache marks.  None of them counts.
    """
    content = message.get("content")
    if isinstance(content, list):
        parts = [_meaning(part) for part in content]
        if len(parts) == 1 and isinstance(parts[0], dict) and set(parts[0]) == {"type", "text"}:
            content = parts[0]["text"]
        else:
            content = parts
    get = message.get
    calls, call, name = get("tool_calls"), get("tool_call_id"), get("name")
    if type(content) is str and not calls and not call and not name:  # nearly all are so
        meaning = f"{get('role')} {content}".encode("utf-8", "surrogatepass")
        return blake2b(meaning, digest_size=32).digest()
    told = (get("role"), content or "", calls_of(message), call, name)
    return blake2b(b"[" + msgspec.json.encode(told, order="sorted"), digest_size=32).digest()


def _meaning(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {
        name: value
        for name, value in part.items()
        if value is not None and name not in ("cache_control", "prompt_cache_breakpoint")
    }


def newest_user(messages: Sequence[Message]) -> int | None:
    """The index of the newest user message."""
    for index in range(len(messages) - 1, -1, -1):
        if role_of(messages[index]) == "user":
            return index
    return None
