"""The turn log: one JSON line on stdout for each chat completion, and for what else is known to
have used tokens.  No content, no key."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import sys
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from .metrics import usage_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Exchange

BATCH_SECONDS = 0.05
"""How long a line waits for others."""

MAX_WAITING = 10_000
"""Lines that wait while stdout does not take any; more are dropped and counted."""


class PluginTurn(msgspec.Struct):
    """What one plugin did; `ms` is its own time."""

    name: str
    phase: str
    outcome: str
    ms: float


class Turn(msgspec.Struct):
    """One line.  Times in milliseconds, tokens as the upstream counted them or as we did."""

    ts: str
    request_id: str
    trace_id: str | None
    span_id: str | None
    session: str | None
    caller: str | None
    route: str
    model: str | None
    stream: bool
    status: int
    source: str
    termination: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str
    saved_tokens: int
    ttfc_ms: float | None
    total_ms: float
    overhead_ms: float
    plugins: list[PluginTurn]


def turn(exchange: Exchange, seconds: float) -> Turn:
    """The line of an exchange that has ended."""
    facts, trace, caller = exchange.facts, exchange.trace, exchange.caller
    usage = facts.usage
    first = exchange.first_chunk
    return Turn(
        ts=_timestamp(exchange.start_ns),
        request_id=exchange.id,
        trace_id=f"{trace.trace_id:032x}" if trace else None,
        span_id=f"{trace.span_id:016x}" if trace else None,
        session=exchange.session,
        caller=(caller.name or caller.id) if caller else None,
        route=exchange.route,
        model=exchange.model,
        stream=exchange.stream,
        status=exchange.status,
        source=exchange.source,
        termination=exchange.termination,
        finish_reason=facts.finish_reasons[0] if facts.finish_reasons else None,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        usage_source=usage_source(usage),
        saved_tokens=exchange.saved_tokens,
        ttfc_ms=None if first is None else round(first * 1e3, 3),
        total_ms=round(seconds * 1e3, 3),
        overhead_ms=round(max(0.0, seconds - exchange.upstream_seconds) * 1e3, 3),
        plugins=[
            PluginTurn(mark.plugin, mark.phase, mark.outcome, round(mark.own_seconds * 1e3, 3))
            for mark in exchange.marks
        ],
    )


def _timestamp(nanoseconds: int) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    seconds, milliseconds = divmod(nanoseconds // 1_000_000, 1_000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


class TurnLog:
    """Writes lines, but only as fast as stdout takes them: a reader who stops stops no request.

    A pipe that polls as writable has room for PIPE_BUF bytes; so many are written at a time.  Where
    several processes write, a line that is longer needs them to wait for its end: `lock` is a file
    of which one of them at a time may have the lock.
    """

    def __init__(
        self, lost: Callable[[], None], fileno: int | None = None, lock: int | None = None
    ) -> None:
        self._lock = lock
        self._fileno = sys.stdout.fileno() if fileno is None else fileno
        self._lost = lost
        self._waiting: deque[bytes] = deque()
        self._rest = b""  # of what was taken from the waiting lines and did not fit
        self._timer: asyncio.TimerHandle | None = None
        self._encode = msgspec.json.Encoder().encode
        self._poll = select.poll()
        self._poll.register(self._fileno, select.POLLOUT)

    def add(self, line: Turn) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost()
            return
        self._waiting.append(self._encode(line))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(BATCH_SECONDS, self._write)

    def _write(self) -> None:
        """Write what stdout takes; come back later for the rest."""
        self._timer = None
        try:
            while (data := self._rest or self._next()) and self._may_write():
                self._rest = data[os.write(self._fileno, data[: select.PIPE_BUF]) :]
                if not self._rest:
                    self._let_others()
        except OSError:  # nobody reads any more
            self._rest = b""
            self._let_others()
        else:
            if data:
                self._rest = data
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(BATCH_SECONDS, self._write)

    def _may_write(self) -> bool:
        """Is there room, and nobody else in the middle of a line?"""
        if not self._poll.poll(0):
            return False
        if self._lock is not None:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _let_others(self) -> None:
        if self._lock is not None:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _next(self) -> bytes:
        """As many of the waiting lines as fit into one write, but at least one."""
        lines: list[bytes] = []
        size = 0
        while self._waiting and (not lines or size + len(self._waiting[0]) < select.PIPE_BUF):
            line = self._waiting.popleft()
            size += len(line) + 1
            lines += (line, b"\n")
        return b"".join(lines)

    async def close(self, seconds: float) -> None:
        """Write what waits, but take no longer than this."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._timer is not None and loop.time() < deadline:
            self._timer.cancel()
            self._write()
            await asyncio.sleep(0.01)
        if self._timer is not None:
            self._timer.cancel()
