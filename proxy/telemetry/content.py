"""Prompts and answers as span attributes; only where the operator asks for them.

The JSON is that of the conventions, https://opentelemetry.io/docs/specs/semconv/gen-ai/; long texts
are cut inside it, so that it stays JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from proxy import sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.exchange import Exchange


def captured_input(exchange: Exchange, limit: int) -> dict[str, str]:
    if exchange.sent is None:
        return {}
    shown = [_message(m, limit) for m in exchange.sent.messages if isinstance(m, dict)]
    attributes = {"gen_ai.input.messages": _json(shown)}
    tools = exchange.sent.get("tools")
    if isinstance(tools, list) and tools:
        attributes["gen_ai.tool.definitions"] = _json(tools)
    return attributes


def captured_output(exchange: Exchange, limit: int) -> dict[str, str]:
    kept = exchange.facts.kept
    if not kept:
        return {}
    choices = _assembled(kept) if exchange.stream else _choices(kept[0])
    shown = [
        {
            **_message(choice.get("message") or {}, limit),
            "finish_reason": choice.get("finish_reason") or "unknown",
        }
        for choice in choices
    ]
    return {"gen_ai.output.messages": _json(shown)}


def _choices(body: bytes) -> list[dict[str, Any]]:
    try:
        choices = msgspec.json.decode(body)["choices"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return []
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []


def _assembled(kept: list[bytes]) -> list[dict[str, Any]]:
    """The choices that the chunks of a stream add up to."""
    whole: dict[int, dict[str, Any]] = {}
    for event in (event for run in kept for event in sse.events(run)):
        for part in _choices(sse.data(event) or b""):
            delta = part.get("delta")
            if not isinstance(delta, dict):
                continue
            empty = {"message": {"role": "assistant", "content": "", "tool_calls": []}}
            choice = whole.setdefault(part.get("index", 0), empty)
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            choice["message"]["content"] += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                _add_call(choice["message"]["tool_calls"], call)
    return [whole[index] for index in sorted(whole)]


def _add_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a fragment of a tool call to the calls it belongs to."""
    index = part.get("index", 0)
    while len(calls) <= index < 1_000:
        calls.append({"id": None, "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _message(message: dict[str, Any], limit: int) -> dict[str, Any]:
    return {"role": str(message.get("role", "")), "parts": list(_parts(message, limit))}


def _parts(message: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        identifier = message.get("tool_call_id")
        response = content[:limit] if isinstance(content, str) else content
        yield {"type": "tool_call_response", "id": identifier, "response": response}
        return
    if isinstance(content, str):
        yield {"type": "text", "content": content[:limit]}
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield {"type": "text", "content": text[:limit]}
            elif isinstance(part, dict):
                yield {"type": str(part.get("type", ""))}  # images and audio stay out
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            yield {
                "type": "tool_call",
                "id": call.get("id"),
                "name": str(function.get("name", "")),
                "arguments": arguments[:limit] if isinstance(arguments, str) else None,
            }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
