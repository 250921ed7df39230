"""The shapes of a chat completion on the wire: the request, and the chunks of a streamed answer.

Both are values over the bytes that came: they are decoded as far as somebody looks, and what nobody
changed is sent on as it came.  Another dialect would be another file like this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from . import sse, strictjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from multidict import CIMultiDict

    from .exchange import Caller, Exchange, OnFinish, OnShown

    Message: TypeAlias = Mapping[str, Any]


class Received:
    """A request as it came; its body is split or decoded once, when somebody looks.

    `headers` are those that go upstream, the client's key among them: nothing for plugins.
    `target` is the path behind /v1, with the query.
    """

    __slots__ = ("_decoded", "_split", "data", "headers", "target")

    def __init__(
        self, data: bytes, headers: CIMultiDict[str], target: str = "/chat/completions"
    ) -> None:
        self.data = data
        self.headers = headers
        self.target = target
        self._decoded: dict[str, Any] | None = None
        self._split: Mapping[str, msgspec.Raw] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The decoded object.  JSONError if it is not strict JSON."""
        if self._decoded is None:
            self._decoded = strictjson.decode_object(self.data)
        return self._decoded

    def get(self, name: str) -> Any:
        """One field, without decoding the others; None if it is missing or cannot be read."""
        if self._decoded is not None:
            return self._decoded.get(name)
        if self._split is None:
            try:
                self._split = strictjson.split(self.data)
            except strictjson.JSONError:
                self._split = {}
        raw = self._split.get(name)
        try:
            return None if raw is None else msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion request.  Immutable; replace() returns a changed copy.

    Fields this proxy does not know are kept and sent on unchanged.
    """

    id: str
    """The request id, also the `x-request-id` the client sees."""
    caller: Caller
    """Who asks: the tenant key for limits and caches, never the raw API key."""
    session: str | None
    """The conversation this request belongs to, where the client names one."""
    options: Mapping[str, str]
    """The client's `x-dragoman-*` headers, by their name without the prefix."""
    deadline: float | None
    """loop.time() after which nobody waits any more."""
    received: Received = field(repr=False)
    exchange: Exchange = field(repr=False)
    changes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Top-level fields that plugins replaced; REMOVED for one they took out."""

    REMOVED: ClassVar[object] = object()

    @property
    def body(self) -> Mapping[str, Any]:
        """The decoded JSON object, changes included.  Do not change what is inside: replace()."""
        if not self.changes:
            return MappingProxyType(self.received.body)
        merged = {**self.received.body, **self.changes}
        return {name: value for name, value in merged.items() if value is not self.REMOVED}

    def get(self, name: str) -> Any:
        """One field of the body, None if it is missing; cheaper than `body` at first sight."""
        if name in self.changes:
            value = self.changes[name]
            return None if value is self.REMOVED else value
        return self.received.get(name)

    @property
    def model(self) -> str:
        value = self.get("model")
        return value if isinstance(value, str) else ""

    @property
    def messages(self) -> Sequence[Message]:
        value = self.get("messages")
        return value if isinstance(value, list) else []

    @property
    def stream(self) -> bool:
        return self.get("stream") is True

    def replace(self, **fields: Any) -> ChatRequest:
        """A copy with these top-level fields of the body; the others keep their bytes."""
        return ChatRequest(  # dataclasses.replace() would take three times as long
            self.id,
            self.caller,
            self.session,
            self.options,
            self.deadline,
            self.received,
            self.exchange,
            {**self.changes, **fields},
        )

    def without(self, *names: str) -> ChatRequest:
        """A copy without these top-level fields of the body."""
        present = [name for name in names if name in self.body]
        return self.replace(**dict.fromkeys(present, self.REMOVED)) if present else self

    def on_finish(self, callback: OnFinish) -> None:
        """Call back once when the exchange has ended, however it ends: also without an answer."""
        self.exchange.callbacks.append(callback)

    def on_shown(self, callback: OnShown) -> None:
        """Call back with what the client has been shown, once it is written.

        That is the FullResponse, or each Chunk of a stream, as all plugins have left it, and None
        when all of the answer has been written; never for an error of ours.  The stream waits for
        the callback, which must be quick.
        """
        self.exchange.viewers.append(callback)

    def data(self) -> bytes:
        """The body to send: the bytes that came, with the changed fields spliced in."""
        if not self.changes:
            return self.received.data
        return strictjson.splice(
            self.received.data,
            {
                name: None if value is self.REMOVED else strictjson.encode(value)
                for name, value in self.changes.items()
            },
        )


def map_choice(choice: Any, part: str, f: Callable[[str], str]) -> Any:
    """A choice with f applied to the content of its message or delta."""
    inner = choice.get(part) if isinstance(choice, dict) else None
    if not isinstance(inner, dict):
        return choice
    text = inner.get("content")
    if not isinstance(text, str) or not text:
        return choice
    return {**choice, part: {**inner, "content": f(text)}}


class Chunk:
    """One event of a streamed answer: its bytes as they came, decoded when somebody looks."""

    __slots__ = ("_body", "raw")

    def __init__(self, raw: bytes, body: dict[str, Any] | None = None) -> None:
        self.raw = raw
        self._body = body

    @classmethod
    def of(cls, body: dict[str, Any]) -> Chunk:
        return cls(sse.encode(msgspec.json.encode(body)), body)

    @property
    def body(self) -> dict[str, Any]:
        """The decoded chunk; empty if the event holds something else.  Do not change it."""
        if self._body is None:
            try:
                value = msgspec.json.decode(sse.data(self.raw) or b"{}")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                value = {}
            self._body = value if isinstance(value, dict) else {}
        return self._body

    @property
    def choices(self) -> list[dict[str, Any]]:
        value = self.body.get("choices")
        return [c for c in value if isinstance(c, dict)] if isinstance(value, list) else []

    def texts(self) -> dict[int, str]:
        """The text this chunk adds, by the index of the choice it adds it to."""
        return {
            choice.get("index", 0): text
            for choice in self.choices
            if isinstance(delta := choice.get("delta"), dict)
            and isinstance(text := delta.get("content"), str)
            and text
        }

    def map_text(self, f: Callable[[str], str]) -> Chunk:
        if not self.texts():
            return self
        choices = [map_choice(choice, "delta", f) for choice in self.body["choices"]]
        if choices == self.body["choices"]:
            return self
        body = {**self.body, "choices": choices}
        return Chunk(sse.with_data(self.raw, msgspec.json.encode(body)), body)
