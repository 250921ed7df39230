"""What is done when an exchange has ended: count what nobody told us, settle accounts, tell."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, TypeVar

from .errors import APIError
from .tasks import is_cancellation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .exchange import Exchange
    from .metering import Meter
    from .settings import Settings
    from .tasks import Tasks
    from .telemetry import Telemetry

T = TypeVar("T")
log = logging.getLogger("dragoman.settlement")

CALLBACK_SECONDS = 10.0
"""How long one on_finish callback may take."""


class Settlement:
    """Ends exchanges.  Nobody waits for it: the client has its answer."""

    def __init__(
        self, settings: Settings, meter: Meter, tasks: Tasks, telemetry: Telemetry
    ) -> None:
        self._estimates = settings.telemetry.estimate_usage
        self._verified = settings.tokens.verify
        self._meter = meter
        self._tasks = tasks
        self._telemetry = telemetry

    def settle(self, exchange: Exchange) -> None:
        """End an exchange: at once, if there is nothing to count and nobody to wait for."""
        seconds = time.perf_counter() - exchange.start
        verify = bool(self._verified) and random.random() < self._verified
        if (
            exchange.callbacks
            or exchange.untold
            or exchange.rewrites
            or exchange.rehearsals
            or self._lacks_usage(exchange)
            or (verify and exchange.facts.usage is not None and exchange.sent is not None)
        ):
            self._tasks.spawn(self._settle(exchange, seconds, verify=verify), name="settlement")
        else:
            self._telemetry.finish(exchange, seconds)

    def _lacks_usage(self, exchange: Exchange) -> bool:
        """Did the upstream work, for a client or for one that left, and not say how much?"""
        if not self._estimates or exchange.facts.usage is not None or exchange.sent is None:
            return False
        last = exchange.attempts[-1] if exchange.attempts else None
        return last is not None and (
            last.status == 200 or (last.status is None and exchange.termination == "client_closed")
        )

    async def _settle(self, exchange: Exchange, seconds: float, *, verify: bool) -> None:
        try:
            if exchange.rehearsals:
                await asyncio.wait(exchange.rehearsals)
            if exchange.sent is not None:
                if self._lacks_usage(exchange):
                    await self._meter.estimate(exchange, exchange.sent)
                elif verify and (usage := exchange.facts.usage) is not None and usage.exact:
                    await self._meter.verify(exchange.sent, usage)
            await self._meter.rewrites(exchange)
            await tell_usage(exchange)
            outcome = exchange.outcome()
            for callback in exchange.callbacks:
                await _call(exchange, callback, outcome)
        finally:
            self._telemetry.finish(exchange, seconds)


async def tell_usage(exchange: Exchange) -> APIError | None:
    """Tell plugins what an answer has reported.  If one of them has enough, its reason."""
    verdict = None
    while exchange.untold:
        report = exchange.untold.pop(0)
        for callback in exchange.usage_callbacks:
            verdict = await _call(exchange, callback, report) or verdict
    return verdict


async def _call(
    exchange: Exchange, callback: Callable[[T], Awaitable[None]], told: T
) -> APIError | None:
    try:
        async with asyncio.timeout(CALLBACK_SECONDS):
            await callback(told)
    except APIError as error:
        return error
    except BaseException as error:
        if is_cancellation(error):
            raise
        log.exception("a callback of %s failed: %s", exchange.id, type(error).__name__)
    return None
