"""What the answer to a chat completion says of itself, read off its bytes as they pass.

A stream is not decoded for this: the patterns below find quotes that JSON would have escaped
inside a string, so that no text of a model is mistaken for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from . import sse, strictjson
from .usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

_FINISH = re.compile(rb'"finish_reason": ?"([^"\\]{1,64})"')
_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments|name)": ?'
    rb'"(?!")([^"\\]*(?:\\.[^"\\]*)*)"'
)
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_ERROR = re.compile(rb'(?:^|[\r\n])data: ?\{"error"')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
# At the very end of an event the key can only be the outermost object's.
_NULL = b',"usage":null'
_LAST = re.compile(rb'(?:,"obfuscation":"[^"\\]*")?\}\s*')


class _Completion(msgspec.Struct):
    id: Any = None
    model: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    usage: Any = None
    choices: Any = None


_decode = msgspec.json.Decoder(_Completion).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SAID = ("id", "model", "service_tier", "system_fingerprint")


def _facts(completion: _Completion) -> Mapping[str, Any]:
    return {name: v for name in _SAID if isinstance(v := getattr(completion, name), str)}


class AnswerFacts:
    """The facts of an answer: who made it, its usage, why it ended, how much text it held."""

    __slots__ = ("complete", "finish_reasons", "kept", "response", "text", "usage")

    def __init__(self) -> None:
        self.response: Mapping[str, str] = {}
        """`id`, `model`, `service_tier` and `system_fingerprint`, as far as they are given."""
        self.usage: Usage | None = None
        self.finish_reasons: list[str] = []
        self.complete = False
        """Has the answer said that it is whole, whatever its framing says?"""
        self.text = bytearray()
        """The model's text, as the inside of a JSON string, where its tokens must be counted."""
        self.kept: list[bytes] = []
        """The answer itself, where content is captured."""

    def read(self, body: bytes) -> None:
        """Read the facts off the body of an answer that came in one piece."""
        try:
            completion = _decode(body)
        except _UNREADABLE:
            return
        self.complete = True
        self.response = _facts(completion)
        self.usage = Usage.reported(completion.usage)
        if self.usage is None:
            self.text += b"".join(_TEXT.findall(body))
        if isinstance(completion.choices, list):
            self.finish_reasons = [
                reason
                for choice in completion.choices
                if isinstance(choice, dict)
                and isinstance(reason := choice.get("finish_reason"), str)
            ]

    def plain_text(self) -> str:
        try:
            return msgspec.json.decode(b'"%b"' % bytes(self.text), type=str)
        except _UNREADABLE:
            return self.text.decode("utf-8", "replace")


class StreamFacts(AnswerFacts):
    """The same of a stream, told event by event; takes out the usage that only we asked for."""

    __slots__ = ("_asked", "_capture", "_count", "failed")

    def __init__(self, *, asked: bool, count: bool = False, capture: bool = False) -> None:
        super().__init__()
        self._asked = asked
        self._count = count
        self._capture = capture
        self.failed = False
        """Has the upstream reported an error inside the stream?"""

    def feed(self, whole: bytes) -> bytes:
        """Read a run of whole events; return what the client is to see of it."""
        if not self.response:
            self._begin(whole)
        if reasons := _FINISH.findall(whole):
            self.finish_reasons += [reason.decode("utf-8", "replace") for reason in reasons]
            self.complete = True
        if self._count:
            self.text += b"".join(_TEXT.findall(whole))
        if self._capture:
            self.kept.append(whole)
        if b"[DONE]" in whole and _DONE.search(whole):
            self.complete = True
        if b'"error"' in whole and _ERROR.search(whole):
            self.failed = True
        if b'"usage"' in whole and (self._asked or _USAGE.search(whole)):
            return self._take_usage(whole)
        return whole

    def _begin(self, whole: bytes) -> None:
        for event in sse.events(whole):
            completion = _chunk(event)
            if completion is not None:
                self.response = _facts(completion) or {"id": ""}
                return

    def _take_usage(self, whole: bytes) -> bytes:
        if self._asked:
            # Most chunks of most upstreams are one event that ends so.
            null = whole.rfind(_NULL)
            if whole.find(b'"usage"') == null + 1 and _LAST.fullmatch(whole, null + len(_NULL)):
                return whole[:null] + whole[null + len(_NULL) :]
        seen = []
        for event in sse.events(whole):
            completion = _chunk(event) if b'"usage"' in event else None
            if completion is None:
                seen.append(event)
                continue
            self.usage = Usage.reported(completion.usage) or self.usage
            if not self._asked:
                seen.append(event)
            elif completion.usage is None:
                seen.append(_without_null_usage(event))
            elif completion.choices:  # usage beside text was not ours to ask for
                seen.append(event)
            else:  # an empty line in front of it ends a comment that the client has already
                seen.append(event[: len(event) - len(event.lstrip(b"\r\n"))])
        return b"".join(seen)


def error_code(body: bytes) -> str | None:
    """The `error.code` of an error body, or its `error.type`; None if it has neither."""
    try:
        error = msgspec.json.decode(body)["error"]
        code = error.get("code") or error.get("type")
    except (*_UNREADABLE, KeyError, TypeError, AttributeError):
        return None
    return code if isinstance(code, str) else None


def _without_null_usage(event: bytes) -> bytes:
    payload = sse.data(event) or b"{}"
    try:
        return event.replace(payload, strictjson.splice(payload, {"usage": None}))
    except strictjson.JSONError:
        return event


def _chunk(event: bytes) -> _Completion | None:
    payload = sse.data(event)
    if payload is None:
        return None
    try:
        return _decode(payload)
    except _UNREADABLE:
        return None
