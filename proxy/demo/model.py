"""The demo model: understands nothing, and says what it was sent, so that plugins' work shows.

The same request gets the same answer.  It calls a tool when the newest message is a user's and
holds the last word of the tool's name: `get_weather` is called where somebody speaks of weather.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from proxy import strictjson

from .example import example

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    Body: TypeAlias = Mapping[str, Any]
    Message: TypeAlias = dict[str, Any]

INTRODUCTION = "I am the demo model and understand nothing."
LONGEST_QUOTE = 300
"""Characters of a message that are quoted."""

_SHOWN = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed")
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z]\w+")


def speak(body: Body, choice: int) -> Message:
    """The message of one choice of an answer."""
    if calls := tool_calls(body):
        return {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        content = _json(_report(body, choice))
    elif form.get("type") == "json_schema":
        schema = form.get("json_schema", {}).get("schema", {})
        content = _json(example(schema, _names(newest(body))))
    else:
        content = " ".join(_sentences(body, choice))
    return {"role": "assistant", "content": content, "refusal": None}


def _report(body: Body, choice: int) -> dict[str, Any]:
    """What there is to say of a request."""
    report: dict[str, Any] = {
        "introduction": INTRODUCTION,
        "messages": len(body["messages"]),
        "newest": _quoted(newest(body)),
    }
    if results := _results(body["messages"]):
        report["results"] = results
    if parameters := {name: body[name] for name in _SHOWN if body.get(name) is not None}:
        report["parameters"] = parameters
    if choice:
        report["choice"] = choice
    return report


def _sentences(body: Body, choice: int) -> Iterator[str]:
    report = _report(body, choice)
    yield report["introduction"]
    count = report["messages"]
    yield f"I was sent {count} message{'s' if count > 1 else ''}."
    yield f"The newest of the user: “{report['newest']}”."
    for result in report.get("results", ()):
        yield f"A tool returned: “{result}”."
    if parameters := report.get("parameters"):
        yield f"My parameters: {', '.join(f'{k} {v}' for k, v in parameters.items())}."
    if choice:
        yield f"This is choice {choice}."


def newest(body: Body) -> str:
    """The text of the newest user message."""
    texts = (text(m) for m in reversed(body["messages"]) if m.get("role") == "user")
    return next(texts, "")


def text(message: Mapping[str, Any]) -> str:
    """The text of a message, whether it has one or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(each for each in texts if isinstance(each, str))


def _results(messages: Sequence[Body]) -> list[str]:
    """What tools have said since the model spoke."""
    last = takewhile(lambda message: message.get("role") == "tool", reversed(messages))
    return [_quoted(text(message)) for message in last][::-1]


def _quoted(words: str) -> str:
    return words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "…"


# ---- tools


def tool_calls(body: Body) -> list[dict[str, Any]]:
    """The calls of tools that a request asks for."""
    functions = [tool["function"] for tool in body.get("tools") or ()]
    chosen = [each for each in functions if _is_asked_for(each["name"], body)]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        chosen = [each for each in functions if each["name"] == name]
    elif choice == "required":
        chosen = chosen or functions[:1]
    elif choice == "none":
        chosen = []
    if body.get("parallel_tool_calls") is False:
        chosen = chosen[:1]
    turn, names = len(body["messages"]), _names(newest(body))
    return [
        _call(f"call_{turn}_{number}", function, names) for number, function in enumerate(chosen, 1)
    ]


def _is_asked_for(name: str, body: Body) -> bool:
    if body["messages"][-1].get("role") != "user":
        return False
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return bool(words) and words[-1].lower() in newest(body).lower()


def _call(call_id: str, function: Mapping[str, Any], names: Iterator[str]) -> dict[str, Any]:
    arguments = _json(example(function.get("parameters") or {}, names))
    called = {"name": function["name"], "arguments": arguments}
    return {"id": call_id, "type": "function", "function": called}


def _names(words: str) -> Iterator[str]:
    """What begins with a capital amid a sentence: good enough for a city."""
    yield from _NAME.findall(words)


def _json(value: Any) -> str:
    return strictjson.encode(value).decode()
