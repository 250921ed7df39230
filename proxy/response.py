"""The two forms of an answer, as plugins see and change them on its way back to the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from multidict import CIMultiDict

from . import coding, sse, strictjson
from .hold import gated, hold_text, leaving
from .wire import Chunk, map_choice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self, TypeAlias

    from .exchange import Exchange, Outcome
    from .hold import Gate
    from .usage import Usage
    from .wire import ChatRequest

    Transform: TypeAlias = Callable[[AsyncIterator[Chunk]], AsyncIterator[Chunk]]
    Write: TypeAlias = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A local answer whose usage nobody has counted yet; `fill` writes it into the answer."""

    request: ChatRequest
    text: str
    finish_reason: str
    fill: Callable[[Usage], None]


class ChatResponse:
    """An answer: a FullResponse or a StreamResponse.

    `source` tells whether the upstream made it or a plugin did.
    """

    __slots__ = ("exchange", "headers", "reason", "source", "status", "uncounted")

    def __init__(
        self,
        exchange: Exchange,
        *,
        status: int = 200,
        reason: str | None = None,
        headers: CIMultiDict[str] | None = None,
        source: Literal["upstream", "local"] = "local",
    ) -> None:
        self.exchange = exchange
        self.status = status
        self.reason = reason
        self.headers = CIMultiDict() if headers is None else headers
        self.source = source
        self.uncounted: Uncounted | None = None

    @property
    def ok(self) -> bool:
        """Is this an answer, and not an error that the upstream reports?"""
        return self.status < 400

    def on_finish(self, callback: Callable[[Outcome], Awaitable[None]]) -> None:
        """Call back once when the exchange has ended, however it ends."""
        self.exchange.callbacks.append(callback)

    def map_text(self, f: Callable[[str], str]) -> Self:
        """The answer with f applied to its text: to all of it, or to each piece of a stream."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give the answer up: its upstream call ends at once."""


class FullResponse(ChatResponse):
    """An answer in one piece.  `data` is what goes to the client, compressed if it came so."""

    __slots__ = ("_body", "data")

    def __init__(self, exchange: Exchange, data: bytes, **kwargs: Any) -> None:
        super().__init__(exchange, **kwargs)
        self.data = data
        self._body: dict[str, Any] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The decoded JSON object; empty if the answer is something else.  Do not change it."""
        if self._body is None:
            decode = coding.reader(self.headers.get("Content-Encoding", ""))
            try:
                value = msgspec.json.decode(decode(self.data)) if decode else {}
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                value = {}
            self._body = value if isinstance(value, dict) else {}
        return self._body

    def replace(self, body: dict[str, Any]) -> FullResponse:
        """A copy with another body."""
        headers = CIMultiDict(self.headers)
        for name in ("Content-Encoding", "Content-Length", "ETag", "Digest", "Content-Digest"):
            headers.popall(name, None)
        return FullResponse(
            self.exchange,
            strictjson.encode(body),
            status=self.status,
            reason=self.reason,
            headers=headers,
            source=self.source,
        )

    def map_text(self, f: Callable[[str], str]) -> Self:
        choices = self.body.get("choices")
        if not isinstance(choices, list):
            return self
        mapped = [map_choice(choice, "message", f) for choice in choices]
        return self if mapped == choices else self.replace({**self.body, "choices": mapped})  # type: ignore[return-value]


class Source(Protocol):
    """Where the bytes of a stream come from."""

    async def read(self) -> bytes:
        """The next run of whole events; b"" at the proper end.  APIError if it breaks."""

    async def close(self) -> None:
        """Stop it at once.  Idempotent."""


class StreamResponse(ChatResponse):
    """An answer as a stream of chunks."""

    __slots__ = ("_aside", "_tail", "events", "transforms")

    def __init__(
        self,
        exchange: Exchange,
        events: Source,
        *,
        transforms: tuple[Transform, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(exchange, **kwargs)
        self.events = events
        self.transforms = transforms
        self._tail = bytearray()
        self._aside: Write | None = None

    def map_chunks(self, f: Transform) -> Self:
        """The stream with f around its chunks: an async generator over those from further in.

        f sees chunks of the chat completion only: comments and `[DONE]` pass it by.
        """
        return self.with_transforms((*self.transforms, f))

    def with_transforms(self, transforms: tuple[Transform, ...]) -> Self:
        """The stream with these transforms in place of its own."""
        return type(self)(
            self.exchange,
            self.events,
            transforms=transforms,
            status=self.status,
            reason=self.reason,
            headers=self.headers,
            source=self.source,
        )

    def hold(
        self, check: Callable[[str], Awaitable[None]], *, every: int = 1024, overlap: int = 256
    ) -> Self:
        """Release text only after check(text) passed.

        If it raises ContentRejected, the stream ends with `finish_reason` `content_filter`.
        `every` and `overlap` are characters.
        """

        def rejected() -> None:
            self.exchange.facts.finish_reasons[:] = ["content_filter"]

        return self.map_chunks(hold_text(check, rejected, every=every, overlap=overlap))

    def gated(self, make: Callable[[], Gate]) -> Self:
        """Release chunks as a gate decides, by checks that run beside the stream."""
        return self.map_chunks(gated(make))

    def map_text(self, f: Callable[[str], str]) -> Self:
        async def mapped(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
            async for chunk in chunks:
                yield chunk.map_text(f)

        return self.map_chunks(mapped)

    @property
    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The chunks as the client will see them.  To be read once; close() it when done."""
        chunks = self._cut()
        for transform in self.transforms:
            chunks = _around(chunks, transform)
        return chunks

    async def send(self, write: Write) -> None:
        """Write the stream to the client, to its end.  APIError if it breaks on the way."""
        if not self.transforms:
            while whole := await self.events.read():
                await write(whole)
            return
        self._aside, last = write, b""
        async with aclosing(self.chunks) as chunks:
            async for chunk in chunks:
                last = chunk.raw
                await write(last)
        if self._tail and not _is_done(last):  # a check that rejects has said so itself
            await write(bytes(self._tail))

    async def _cut(self) -> AsyncGenerator[Chunk, None]:
        """The chunks as they come.  Comments go to the client at once, `[DONE]` at the end."""
        with leaving():
            while whole := await self.events.read():
                for event in sse.events(whole):
                    payload = sse.data(event)
                    if self._tail or payload == b"[DONE]":
                        self._tail += event
                    elif payload is not None:
                        yield Chunk(event)
                    elif self._aside is not None:
                        await self._aside(event)

    async def close(self) -> None:
        await self.events.close()


def _is_done(raw: bytes) -> bool:
    """Is `[DONE]` the last thing that this says?"""
    events = sse.events(raw)
    return bool(events) and sse.data(events[-1]) == b"[DONE]"


async def _around(
    inner: AsyncGenerator[Chunk, None], transform: Transform
) -> AsyncGenerator[Chunk, None]:
    """Run a transform; when the outside closes, close it first, and then what it reads from.

    Nested generators alone would leave the inner one to the garbage collector.
    """
    with leaving():
        async with aclosing(inner), closing(transform(inner)) as outer:
            async for chunk in outer:
                yield chunk


@asynccontextmanager
async def closing(chunks: AsyncIterator[Chunk]) -> AsyncIterator[AsyncIterator[Chunk]]:
    """Close it in the end, if it can be closed: a plugin may bring any async iterator."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
