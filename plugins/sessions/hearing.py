"""The answer as the client was shown it, put together again while it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from proxy.plugin import Chunk, FullResponse

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = ("content", "refusal", "tool_calls", "function_call")
"""What of a message a model may be told again; reasoning is not, and audio has another form."""


class Heard:
    """Listens to what a client is shown of the first choice."""

    def __init__(self, is_over: Callable[[], None]) -> None:
        self._is_over = is_over
        self._whole: Mapping[str, Any] | None = None
        self._texts: dict[str, list[str]] = {"content": [], "refusal": []}
        self._calls: dict[int, dict[str, Any]] = {}
        self._call: dict[str, Any] = {}
        self.begun = False
        """Has anything been shown?"""
        self.finish_reason: str | None = None

    def __call__(self, shown: FullResponse | Chunk | None) -> None:
        if shown is None:
            self._is_over()
        elif isinstance(shown, Chunk):
            for choice in shown.choices:
                if choice.get("index", 0) == 0:
                    self._add(choice)
        elif shown.ok:
            choices = shown.body.get("choices")
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, Mapping) and choice.get("index", 0) == 0:
                    self._take(choice)

    def message(self) -> dict[str, Any]:
        """What was said so far."""
        if self._whole is not None:
            message = {
                name: self._whole[name] for name in KEPT if self._whole.get(name) is not None
            }
        else:
            message = {name: "".join(parts) for name, parts in self._texts.items() if parts}
            if self._calls:
                message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
            if self._call:
                message["function_call"] = self._call
        if not message:
            message["content"] = ""
        elif "content" not in message:
            message["content"] = None
        return {"role": "assistant", **message}

    def _take(self, choice: Mapping[str, Any]) -> None:
        message = choice.get("message")
        if isinstance(message, Mapping):
            self.begun = True
            self._whole = message
            self._end(choice)

    def _add(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        self.begun = True
        self._end(choice)
        if not isinstance(delta, Mapping):
            return
        for name, parts in self._texts.items():
            if isinstance(text := delta.get(name), str) and text:
                parts.append(text)
        if (calls := delta.get("tool_calls")) and isinstance(calls, list):
            for position, call in enumerate(calls):
                if isinstance(call, Mapping):
                    index = call.get("index", position)
                    if isinstance(index, int):
                        _merge(self._calls.setdefault(index, {}), call)
        if isinstance(call := delta.get("function_call"), Mapping):
            _merge(self._call, call)

    def _end(self, choice: Mapping[str, Any]) -> None:
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason


_ONCE = ("id", "type", "index")


def _merge(made: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add what a chunk says of a call: texts grow, but for those that come whole."""
    for name, value in delta.items():
        if name == "index" or value is None:
            continue
        if isinstance(value, Mapping):
            _merge(made.setdefault(name, {}), value)
        elif isinstance(value, str) and name not in _ONCE and isinstance(made.get(name), str):
            made[name] += value
        else:
            made[name] = value
