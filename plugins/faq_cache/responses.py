"""The response cache: the very same request of the same caller gets the same answer.

What is kept is the text of complete answers; it serves streams and others alike.  Of equal requests
at the same time one goes to the upstream, and the others wait for what it brings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from proxy.plugin import FullResponse, StoreUnavailable, StreamResponse, Versioned

from .eligibility import cache_control

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Chunk, Outcome, Services

    from .options import Responses

RECORDS = Versioned(1)
MAX_TEXT = 200_000
"""Characters of an answer that is kept."""
_FORM = frozenset(("stream", "stream_options"))
"""What an answer's text does not depend on."""
_CARRIES_NOTHING: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Kept:
    """A complete answer, and when it was given."""

    text: str
    given: int

    @property
    def age(self) -> int:
        return max(0, _now() - self.given)


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A request on its way, and what it brings for those that wait: None if they must ask."""

    key: str
    landed: asyncio.Future[Kept | None]


class ResponseCache:
    """Finds, waits for, and keeps answers."""

    def __init__(self, options: Responses, services: Services) -> None:
        self._options = options
        self._services = services
        self._under_way: dict[str, Flight] = {}

    def key(self, request: ChatRequest) -> str:
        """Stands for all that the answer depends on: body, caller, upstream and path."""
        body = {name: value for name, value in request.body.items() if name not in _FORM}
        parts = [request.caller.id, self._services.upstream, request.received.target, body]
        canonical = msgspec.json.encode(parts, order="deterministic")
        secret = self._services.secret[:64]
        return "response:" + blake2b(canonical, digest_size=24, key=secret).hexdigest()

    async def find(self, key: str) -> Kept | None:
        """The answer that is kept, or that an equal request is about to get."""
        deadline = asyncio.get_running_loop().time() + self._options.wait
        while True:
            kept = await self._stored(key)
            flight = self._under_way.get(key)
            if kept is not None or flight is None:
                return kept
            left = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait((flight.landed,), timeout=max(0.0, left))
            if not done or (brought := flight.landed.result()) is not None:
                return brought if done else None

    async def fetch(self, key: str, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """Ask the upstream, and keep its answer if it is complete."""
        flight = Flight(key, asyncio.get_running_loop().create_future())
        self._under_way.setdefault(key, flight)
        try:
            response = await call_next(request)
        except BaseException:
            self._end(flight)
            raise
        response.on_finish(partial(self._ended, flight))
        if isinstance(response, FullResponse):
            self._land(flight, complete_text(response.body) if response.ok else None)
        elif isinstance(response, StreamResponse):
            return response.map_chunks(partial(self._read, flight))
        return response

    async def _read(
        self, flight: Flight, chunks: AsyncIterator[Chunk]
    ) -> AsyncGenerator[Chunk, None]:
        """Pass the chunks on, and keep their text when they have all been there."""
        text = StreamedText()
        async for chunk in chunks:
            text.add(chunk)
            yield chunk
        self._land(flight, text.complete)

    def _land(self, flight: Flight, text: str | None) -> None:
        """Give those who wait the answer, and keep it; without one, they ask for themselves."""
        if text is None or len(text) > MAX_TEXT:
            self._end(flight)
            return
        kept = Kept(text, _now())
        flight.landed.set_result(kept)
        if not self._services.defer(self._store(flight, kept), name="keep a response"):
            self._end(flight)

    def _end(self, flight: Flight) -> None:
        if not flight.landed.done():
            flight.landed.set_result(None)
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]

    async def _ended(self, flight: Flight, _: Outcome) -> None:
        """The exchange has ended.  What came of it may still be on its way to the store."""
        if not flight.landed.done():
            self._end(flight)

    # ---- the store

    async def _stored(self, key: str) -> Kept | None:
        try:
            fields = RECORDS.decode(await self._services.store.get(key))
        except StoreUnavailable:
            return None
        match fields:
            case {"text": str(text), "given": int(given)}:
                return Kept(text, given)
            case _:
                return None

    async def _store(self, flight: Flight, kept: Kept) -> None:
        record = RECORDS.encode({"text": kept.text, "given": kept.given})
        try:
            await self._services.store.put(flight.key, record, ttl=self._options.ttl)
        except StoreUnavailable:
            return
        finally:
            self._end(flight)


def _now() -> int:
    return time.time_ns() // 1_000_000_000


# ---- what may be kept


def cacheable(request: ChatRequest) -> bool:
    """Does the client want one text, and nothing that is made for this request only?"""
    get = request.get
    return (
        "no-store" not in cache_control(request)
        and get("n") in (None, 1)
        and not get("logprobs")
        and not get("store")
        and get("audio") is None
        and get("modalities") in (None, ["text"])
    )


def complete_text(body: Mapping[str, Any]) -> str | None:
    """The text of a whole answer; None if it is not complete, or more than a text."""
    match body.get("choices"):
        case [{"finish_reason": "stop", "message": {"content": str(text), **others}}]:
            others.pop("role", None)
            return text if all(each in _CARRIES_NOTHING for each in others.values()) else None
        case _:
            return None


class StreamedText:
    """The text of a stream, as far as it is nothing but a text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._finish: object = None
        self._plain = True

    def add(self, chunk: Chunk) -> None:
        for choice in chunk.choices:
            delta = choice.get("delta")
            self._finish = choice.get("finish_reason") or self._finish
            if not isinstance(delta, Mapping) or choice.get("index", 0) != 0:
                self._plain = False
                continue
            for name, value in delta.items():
                if name == "content" and isinstance(value, str):
                    self._parts.append(value)
                elif name != "role" and value not in _CARRIES_NOTHING:
                    self._plain = False
        self._plain = self._plain and "error" not in chunk.body

    @property
    def complete(self) -> str | None:
        """The text, if the stream came to a proper end."""
        return "".join(self._parts) if self._plain and self._finish == "stop" else None
