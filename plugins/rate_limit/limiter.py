"""Reserves and settles: in the buckets that all processes share, or while those are gone here."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from proxy.plugin import Scripting, StoreUnavailable

from .buckets import Decision, LocalBuckets
from .leases import Leases
from .scripts import SharedBuckets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.plugin import Services

    from .demand import Demand


class Limiter:
    """One script for a reservation and one to settle it, if there is anything to settle."""

    def __init__(self, services: Services, processes: int) -> None:
        store = services.store
        self._shared: SharedBuckets | None = None
        if store.is_shared and isinstance(store, Scripting):
            self._shared = SharedBuckets(store)
        self._local = LocalBuckets()
        self._processes = processes
        self._services = services
        self._leases = Leases(lambda work: services.defer(work, name="places"))
        self.on_freed: Callable[[], None] = lambda: None
        """Called when something was given back."""

    def inherit(self, before: Limiter) -> None:
        """Go on with the places that it holds, and those that it could not give back."""
        self._leases = before._leases.shared()

    def close(self) -> None:
        self._leases.close()

    def is_local(self, decision: Decision) -> bool:
        """Was it made here because Redis is gone?"""
        return self._shared is not None and decision.buckets is self._local

    async def reserve(self, demands: Sequence[Demand], lease: str) -> Decision:
        """Decide.  Not to be cancelled: what the script has taken would be lost."""
        if self._shared is not None:
            try:
                allowed, levels = await self._shared.reserve(demands, lease)
            except StoreUnavailable as error:
                # A Redis that froze takes the places when it thaws, and nobody would know of them.
                if error.may_be_done and (places := _places(demands)):
                    self._leases.owe(lease, self._shared, places)
                demands = [demand.part(self._processes) for demand in demands]
            else:
                return self._hold(Decision(demands, levels, allowed, self._shared), lease)
        allowed, levels = await self._local.reserve(demands, lease)
        return self._hold(Decision(demands, levels, allowed, self._local), lease)

    async def reserve_for_client(self, demands: Sequence[Demand], lease: str) -> Decision:
        """Decide.  If the client leaves meanwhile, it goes on alone and is given back."""
        if self._shared is None:
            return await self.reserve(demands, lease)  # in one go: nobody leaves meanwhile
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        if not self._services.defer(self._answer(answer, demands, lease), name="reservation"):
            return await self.reserve(demands, lease)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self.undo_later(answer.result(), lease)
            raise

    async def _answer(
        self, answer: asyncio.Future[Decision], demands: Sequence[Demand], lease: str
    ) -> None:
        try:
            decision = await self.reserve(demands, lease)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(decision)
        else:
            await self.undo(decision, lease)

    async def settle(self, decision: Decision, lease: str, surplus: Sequence[float]) -> None:
        """Give back places, and of each charge its surplus."""
        pairs = [
            (demand, given)
            for demand, given in zip(decision.demands, surplus, strict=True)
            if given or not demand.rate
        ]
        if not pairs:
            return
        demands = [demand for demand, _ in pairs]
        self._leases.release(lease)
        try:
            await decision.buckets.settle(demands, lease, [given for _, given in pairs])
        except StoreUnavailable:  # buckets leak anyway; places would be held for a while
            if places := _places(demands):
                self._leases.owe(lease, decision.buckets, places)
        self.on_freed()

    async def charge(self, decision: Decision, tokens: int) -> None:
        """Take what an answer has used, of the buckets that let its request through."""
        demands = [demand for demand in decision.demands if demand.unit == "tokens"]
        with suppress(StoreUnavailable):
            await decision.buckets.settle(demands, "", [-float(tokens)] * len(demands))

    async def undo(self, decision: Decision, lease: str) -> None:
        """Give everything back: nothing came of the request."""
        if decision.allowed:
            await self.settle(decision, lease, [demand.charge for demand in decision.demands])

    def undo_later(self, decision: Decision, lease: str) -> None:
        self._services.defer(self.undo(decision, lease), name="reservation")

    def _hold(self, decision: Decision, lease: str) -> Decision:
        if decision.allowed and (places := _places(decision.demands)):
            self._leases.hold(lease, decision.buckets, places)
        return decision


def _places(demands: Sequence[Demand]) -> list[Demand]:
    return [demand for demand in demands if not demand.rate]
