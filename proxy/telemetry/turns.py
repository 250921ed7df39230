"""The turn log: one JSON line on stdout for each chat completion.  No content, no key."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from .metrics import usage_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Exchange

BATCH_SECONDS = 0.05
"""How long lines wait for others: waking the writer's thread costs more than writing a line."""

MAX_WAITING = 10_000
"""Lines that wait while stdout does not take any; more are dropped and counted."""


def line(exchange: Exchange, seconds: float) -> dict[str, Any]:
    """The fields of one line; times in milliseconds."""
    usage = exchange.facts.usage
    trace = exchange.trace
    return {
        "ts": datetime.fromtimestamp(exchange.start_ns / 1e9, UTC).isoformat(
            timespec="milliseconds"
        ),
        "request_id": exchange.id,
        "trace_id": f"{trace.trace_id:032x}" if trace else None,
        "span_id": f"{trace.span_id:016x}" if trace else None,
        "session": exchange.session,
        "caller": exchange.caller.name or exchange.caller.id if exchange.caller else None,
        "model": exchange.model,
        "stream": exchange.stream,
        "status": exchange.status,
        "source": exchange.source,
        "termination": exchange.termination,
        "finish_reason": exchange.facts.finish_reasons[0]
        if exchange.facts.finish_reasons
        else None,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "usage_source": usage_source(usage),
        "saved_tokens": exchange.saved_tokens,
        "ttfc_ms": _ms(exchange.first_chunk),
        "total_ms": _ms(seconds),
        "overhead_ms": _ms(max(0.0, seconds - exchange.upstream_seconds)),
        "plugins": [
            {
                "name": mark.plugin,
                "phase": mark.phase,
                "outcome": mark.outcome,
                "ms": _ms(mark.own_seconds),
            }
            for mark in exchange.marks
        ],
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


class TurnLog:
    """Writes lines from a thread of its own, so that a reader who stops never stops a request."""

    def __init__(self, lost: Callable[[int], None], fileno: int | None = None) -> None:
        self._fileno = sys.stdout.fileno() if fileno is None else fileno
        self._lost = lost
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Event()
        self._written = threading.Event()
        self._written.set()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._write, name="turn log", daemon=True)
        self._thread.start()

    def add(self, fields: dict[str, Any]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost(1)
            return
        self._waiting.append(msgspec.json.encode(fields) + b"\n")
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(BATCH_SECONDS, self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        self._wake.set()

    def _write(self) -> None:
        while not (self._closing and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            batch = bytearray()
            while self._waiting:
                batch += self._waiting.popleft()
            try:
                rest = memoryview(bytes(batch))
                while rest:
                    rest = rest[os.write(self._fileno, rest) :]
            except OSError:  # nobody reads any more
                self._lost(batch.count(b"\n"))

    async def close(self, seconds: float) -> None:
        """Write what waits, but take no longer than this."""
        if self._timer is not None:
            self._timer.cancel()
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, seconds)
