"""Where sessions are: for each a text that only grows, but for what is forgotten, and a lease.

Who holds the lease writes.  It ends by itself if its process does, and is renewed while an answer
lasts.  `scripts` says the same in Lua, so that each step is one round trip to Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from proxy.plugin import Store

LEASE = 30.0
"""Seconds for which a session is held, unless that is renewed."""


class Place(NamedTuple):
    """The keys of a session."""

    text: str
    lease: str


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of a text: `head`, what stood from `start` to `stop`, and `tail`."""

    expected: int
    """The length of the text that this is about, in bytes."""
    head: bytes
    start: int
    stop: int
    tail: bytes


class Log(Protocol):
    """Its methods raise StoreUnavailable; what was asked may have been done then."""

    async def enter(self, place: Place, token: str) -> bytes | None:
        """Take the lease, and read; None if somebody else holds it."""

    async def leave(self, place: Place, token: str, edit: Edit) -> bool:
        """Write and give the lease back.  False, and nothing is written, if it is no longer ours,
        or if the text is not as long as expected.  To be repeated where it may have been done."""

    async def renew(self, place: Place, token: str) -> None:
        """Hold the lease for longer, if it is ours."""

    async def release(self, place: Place, token: str) -> None:
        """Give the lease back, if it is ours."""


class PlainLog:
    """Sessions on any store.  In the memory of one process each step is as atomic as a script."""

    def __init__(self, store: Store, ttl: float) -> None:
        self._store = store
        self._ttl = ttl

    async def enter(self, place: Place, token: str) -> bytes | None:
        ours = token.encode()
        if not await self._store.put(place.lease, ours, ttl=LEASE, only_if_absent=True):
            return None
        return await self._store.get(place.text, ttl=self._ttl) or b""

    async def leave(self, place: Place, token: str, edit: Edit) -> bool:
        text = await self._store.get(place.text) or b""
        if not await self._is_ours(place, token):
            return bool(edit.tail) and text.endswith(edit.tail)
        is_as_expected = len(text) == edit.expected
        if is_as_expected:
            made = edit.head + text[edit.start : edit.stop] + edit.tail
            if made:
                await self._store.put(place.text, made, ttl=self._ttl)
            else:
                await self._store.delete(place.text)
        await self._store.delete(place.lease)
        return is_as_expected

    async def renew(self, place: Place, token: str) -> None:
        if await self._is_ours(place, token):
            await self._store.touch(place.lease, ttl=LEASE)

    async def release(self, place: Place, token: str) -> None:
        if await self._is_ours(place, token):
            await self._store.delete(place.lease)

    async def _is_ours(self, place: Place, token: str) -> bool:
        return await self._store.get(place.lease) == token.encode()
