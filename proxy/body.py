"""Reading the body of a chat completion, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

from .errors import BodyTooLarge, InvalidRequest, Overloaded, RequestTimeout
from .listener import go_ahead

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import StreamReader

    from .telemetry import Metrics

MIN_RATE = 8_000
"""Bytes per second below which a client runs out of time."""


class BodyBudget:
    """The bytes of bodies that may be in memory at once."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._held = 0
        self._gauge = metrics.body_bytes

    def take(self, size: int) -> None:
        """Overloaded if there is no room."""
        if self._held + size > self.limit:
            raise Overloaded(
                "Too many long requests at once. Try again soon.", headers={"Retry-After": "1"}
            )
        self._hold(size)

    def give_back(self, size: int) -> None:
        self._hold(-size)

    def _hold(self, size: int) -> None:
        self._held += size
        self._gauge.set(self._held)


async def arriving(content: StreamReader, timeout: float) -> AsyncGenerator[bytes, None]:
    """A body as it comes in.  RequestTimeout if the client keeps us waiting for longer than this
    and a second for each MIN_RATE bytes; InvalidRequest for bytes that are no body."""
    loop = asyncio.get_running_loop()
    size, waited = 0, 0.0
    while True:
        start = loop.time()
        try:
            async with asyncio.timeout(timeout + size / MIN_RATE - waited if timeout else None):
                part = await content.readany()
        except TimeoutError:
            raise RequestTimeout("The body did not arrive in time.") from None
        except web.RequestPayloadError:
            raise InvalidRequest("The body is not framed as HTTP says.") from None
        if not part:
            return
        waited += loop.time() - start
        size += len(part)
        yield part


class Body:
    """A body that is being read; its bytes count against the budget until release()."""

    def __init__(self, budget: BodyBudget, *, limit: int, timeout: float) -> None:
        self._budget = budget
        self._limit = limit
        self._timeout = timeout
        self.parts: list[bytes] = []
        self.size = 0

    async def read(self, request: web.BaseRequest) -> bytes:
        """The whole body.  BodyTooLarge, RequestTimeout, Overloaded, or InvalidRequest for bytes
        that are no body; what has come by then stays in `parts`."""
        if (request.content_length or 0) > self._limit:
            raise self._too_large()
        await go_ahead(request)
        content = request.content
        if content.is_eof():  # it came with the headers: nothing to wait for
            self._add(content.read_nowait(-1))
        else:
            async with aclosing(arriving(content, self._timeout)) as parts:
                async for part in parts:
                    self._add(part)
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def _add(self, part: bytes) -> None:
        self._budget.take(len(part))
        self.size += len(part)
        self.parts.append(part)
        if self.size > self._limit:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is longer than {self._limit:,} bytes.")

    def release(self) -> None:
        """Let the next ones have the room.  Idempotent."""
        self._budget.give_back(self.size)
        self.size = 0
        self.parts.clear()
