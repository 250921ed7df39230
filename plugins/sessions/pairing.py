"""Tool calls and their results, which belong together: a model is never sent one without the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import calls_of, role_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from .messages import Message


class Unpaired(Exception):
    """A result was brought whose call is nowhere."""


def paired(history: Sequence[Message], fresh: Sequence[Message]) -> list[Message]:
    """What was kept and what is new, as a model takes it.

    A call that nobody has answered is left out, and so is a result of what was kept whose call is
    gone.  Unpaired if a new result has no call.
    """
    messages = [*history, *fresh]
    made: list[Message] = []
    index = 0
    while index < len(messages):
        message, end = messages[index], index + 1
        ids = {str(call.get("id")) for call in calls_of(message)}
        while end < len(messages) and role_of(messages[end]) == "tool":
            end += 1
        # A result with nothing in front of it answers nothing, and stands for itself.
        first = index if role_of(message) == "tool" else index + 1
        results = []
        for place in range(first, end):
            if _answers(messages[place]) in ids:
                results.append(messages[place])
            elif place >= len(history):
                raise Unpaired
        if ids:
            message = _with_calls(message, set(map(_answers, results)))
        if message and first > index:
            made.append(message)
        made += results
        index = end
    return made


def _answers(result: Message) -> str:
    """The id of the call whose result this is."""
    return str(result.get("tool_call_id"))


def _with_calls(message: Message, answered: AbstractSet[str]) -> Mapping[str, Any]:
    """The message with those calls only; empty if nothing is left of it."""
    calls = [call for call in calls_of(message) if str(call.get("id")) in answered]
    if len(calls) == len(calls_of(message)):
        return message
    if calls:
        return {**message, "tool_calls": calls}
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return rest if rest.get("content") else {}


def piece(messages: Sequence[Message | None], index: int) -> list[int]:
    """The places of what belongs together with a message: a call, all calls beside it, and all
    their results; else the message alone."""
    start = index
    while start > 0 and _is_result(messages[start]):
        start -= 1
    call = messages[start]
    if call is None or not calls_of(call):
        return [index]
    end = start + 1
    while end < len(messages) and _is_result(messages[end], or_gone=True):
        end += 1
    return [place for place in range(start, end) if messages[place] is not None]


def _is_result(message: Message | None, *, or_gone: bool = False) -> bool:
    return or_gone if message is None else role_of(message) == "tool"
