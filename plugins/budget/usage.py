"""What is used, noted at the end of each exchange and written to the store once a second."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from datetime import date, timedelta
from typing import TYPE_CHECKING

from proxy.plugin import Scripting, StoreUnavailable

from .days import Batch, LocalDays, Row, SharedDays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.plugin import Services, Usage

    from .days import Amounts

PAUSE = 1.0
"""Seconds for which amounts are collected before they are written."""

LAST_SECONDS = 3.0
"""How long a process that ends tries to write what it has."""

ROWS = 10_000
"""Rows of a day that one process opens: clients type names of models, and bring keys.  Beyond
that, usage is that of OTHERS."""

ROWS_AT_ONCE = 200
"""Rows in one batch."""

LONGEST_NAME = 128
OTHERS = "(others)"

DAY = 86_400


class UsageBook:
    """The usage that this process sees; what Redis does not take is kept until it does."""

    def __init__(self, services: Services, keep: float) -> None:
        """`keep` is in seconds."""
        store = services.store
        self._services = services
        self._keep = timedelta(seconds=keep)
        self._kept: SharedDays | LocalDays
        if store.is_shared and isinstance(store, Scripting):
            self._kept = SharedDays(store, secrets.token_hex(8), keep + DAY)
        else:
            self._kept = LocalDays()
        self._noted: dict[str, dict[Row, Amounts]] = {}
        self._batches: deque[Batch] = deque()
        self._number = 0
        self._opened: dict[str, set[Row]] = {}
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, day: str, caller: str, model: str, amounts: Amounts) -> None:
        """Add to the row of a caller and a model; it is written within a second or so."""
        row = self._row(day, caller, model)
        self._noted.setdefault(day, {}).setdefault(row, Counter()).update(amounts)
        self._wind()

    def _row(self, day: str, caller: str, model: str) -> Row:
        is_name = 0 < len(model) <= LONGEST_NAME
        row = Row(caller, model.encode(errors="replace").decode() if is_name else OTHERS)
        opened = self._opened.setdefault(day, set())
        if row in opened:
            return row
        if len(opened) >= ROWS:
            return Row(OTHERS, OTHERS)
        if not opened:
            self._forget()
        opened.add(row)
        return row

    def _forget(self) -> None:
        """A day has begun, perhaps in one of several time zones."""
        newest = max(self._opened)
        for past in sorted(self._opened)[:-3]:
            del self._opened[past]
        if isinstance(self._kept, LocalDays):
            self._kept.forget(str(date.fromisoformat(newest) - self._keep))

    # ---- writing

    def _wind(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._services.defer(self._write_or_wait(), name="usage"):
            self._wind()

    async def _write_or_wait(self) -> None:
        try:
            await self.write()
        except StoreUnavailable:
            self._wind()

    async def write(self) -> None:
        """Write all that was noted.  StoreUnavailable; then it is kept, and can be written later."""
        async with self._writing:
            while self._batches or self._seal():
                await self._kept.add(self._batches[0])
                self._batches.popleft()

    def _seal(self) -> bool:
        """Make batches of what was noted; False if there was nothing.

        A batch that may have been written does not change: what is noted meanwhile waits here.
        """
        for day, rows in self._noted.items():
            items = list(rows.items())
            for start in range(0, len(items), ROWS_AT_ONCE):
                self._number += 1
                some = dict(items[start : start + ROWS_AT_ONCE])
                self._batches.append(Batch(day, self._number, some))
        self._noted = {}
        return bool(self._batches)

    async def close(self) -> None:
        """Write the rest, if that can be done.  Who has inherited the book goes on with it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._write_somehow()
        except TimeoutError:
            waiting = [batch.rows for batch in self._batches] + list(self._noted.values())
            lost = sum(each["requests"] for rows in waiting for each in rows.values())
            self._services.log.warning(
                "the usage of %d requests is not written: no store took it", lost
            )

    async def _write_somehow(self) -> None:
        while True:
            try:
                return await self.write()
            except StoreUnavailable:
                await asyncio.sleep(0.1)

    # ---- reading

    async def day(self, day: str) -> Mapping[Row, Amounts]:
        """What was used on a day, as far as it was written.  StoreUnavailable."""
        return await self._kept.read(day)


def amounts_of(usage: Usage | None, nano: int | None, *, is_local: bool) -> Amounts:
    """What an exchange adds to its row.

    `usage` is None where nobody knows it, `nano` (billionths of a dollar) where no price is known;
    `is_local` if a plugin answered.
    """
    if is_local:
        return Counter(requests=1, local=1)
    if usage is None:
        return Counter(requests=1, estimated=1)
    found = Counter(
        requests=1,
        estimated=int(not usage.exact),
        unpriced=int(nano is None),
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
        completion=usage.completion_tokens,
        reasoning=usage.reasoning_tokens,
        nano=nano or 0,
    )
    return +found  # without what is zero
