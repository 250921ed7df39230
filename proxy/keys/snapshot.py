"""What a process remembers of the keys in the store, so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, date, datetime
from itertools import islice
from typing import TYPE_CHECKING

from proxy import tasks
from proxy.callers import Known
from proxy.errors import KeysUnavailable
from proxy.store import StoreUnavailable
from proxy.throttle import Throttle

from .table import UnreadableTable

if TYPE_CHECKING:
    from proxy.telemetry import Metrics

    from .table import KeyTable

log = logging.getLogger("dragoman.keys")

REFRESH = 2.0
"""Seconds between two looks at the table."""

USES = 500
"""Keys whose use is noted between two of them."""


class Snapshot:
    """The keys as they were last read.  They stay while the store is gone, however long."""

    def __init__(self, table: KeyTable, metrics: Metrics) -> None:
        self._table = table
        self._keys: dict[str, Known] = {}
        self._revision = ""
        self.is_ready = False
        """Has the table ever been read?"""
        self._clock = asyncio.get_running_loop().time
        self._current = self._clock()
        self._gauge = metrics.keys_stale
        self._troubled = False
        self._throttle = Throttle()
        self._refreshing: asyncio.Task[None] | None = None
        self._day = date.min
        self._noted: set[str] = set()
        self._used: set[str] = set()

    def find(self, sha256: str) -> Known | None:
        """The key of this hash, if there is one.  KeysUnavailable if nobody knows yet."""
        if not self.is_ready:
            raise KeysUnavailable(
                "The proxy cannot read its API keys yet. Try again soon.",
                headers={"Retry-After": "2"},
            )
        known = self._keys.get(sha256)
        if known is not None and sha256 not in self._noted:
            self._used.add(sha256)
        return known

    def stale(self) -> float:
        """Seconds for which the store has not confirmed these keys: revoked ones may be among them."""
        seconds = self._clock() - self._current
        return seconds if seconds > 2 * REFRESH or self._troubled else 0.0

    # ---- following the store

    async def start(self) -> None:
        """Read the table, if the store is there, and follow it."""
        await self.refresh()
        self._refreshing = tasks.start(self._follow(), name="keys: follow the store")

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self.refresh()
                self._gauge.set(self.stale())
                await self._note_uses()
            except Exception:  # it has to go on: nobody else hears of revocations
                log.exception("the keys were not read")

    async def refresh(self) -> None:
        """Read the table if it has changed."""
        try:
            state = await self._table.news(self._revision)
        except StoreUnavailable:
            self._trouble("the store does not answer")
            return
        except UnreadableTable:
            self._trouble("their table in the store is damaged, or a newer version's")
            return
        if state is not None:
            if not state.revision and self._revision:
                self._trouble("their table is gone from the store")
                return
            self._keys = Known.by_hash(state.keys)
            self._revision = state.revision
            log.info("keys in the store: %d", len(self._keys))
        self.is_ready = True
        self._current = self._clock()
        if self._troubled:
            self._troubled = False
            log.info("the keys are current again")

    def _trouble(self, reason: str) -> None:
        self._troubled = True
        if self._throttle.allows(reason):
            if self.is_ready:
                consequence = "those last read stay good, and what is revoked now is not noticed"
            else:
                consequence = "requests with one are refused until they can be read"
            log.warning("keys: %s; %s", reason, consequence)

    async def _note_uses(self) -> None:
        today = datetime.now(UTC).date()
        if today != self._day:
            self._day = today
            self._noted.clear()
        some = list(islice(self._used, USES))
        try:
            await self._table.note_use(some, today)
        except StoreUnavailable:
            return
        self._used.difference_update(some)
        self._noted.update(some)
