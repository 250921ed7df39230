"""What a plugin may ask of a store, wherever that keeps things."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

MAX_VALUE = 8_000_000
"""The longest value, in bytes."""


class StoreUnavailable(Exception):
    """The store is slow, gone, full or does not take this; do without it, or refuse."""

    may_be_done = False
    """Was it sent and not answered?  It may have been done, or be done when the store goes on."""


class Store(Protocol):
    """Bytes by their keys, each for a time.

    What it holds may be gone at any time, and any method may raise StoreUnavailable: within the
    `timeout` of the store, and at once while the store is known to be gone.
    """

    @property
    def is_shared(self) -> bool:
        """Do all processes of the proxy see the same?"""

    async def get(self, key: str, *, ttl: float | None = None) -> bytes | None:
        """The value; with a `ttl`, it lives for so many seconds more from now on."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of their keys, in one round trip."""

    async def put(
        self, key: str, value: bytes, *, ttl: float, only_if_absent: bool = False
    ) -> bool:
        """Keep a value for `ttl` seconds.  False if it was to be absent and there was one."""

    async def touch(self, key: str, *, ttl: float) -> bool:
        """Let the value live for `ttl` seconds from now on.  False if there is none."""

    async def delete(self, *keys: str) -> int:
        """Forget these values; how many there were."""

    def lock(self, key: str, *, ttl: float) -> AbstractAsyncContextManager[bool]:
        """A lock that never waits: `async with` gives whether it is ours.

        It is free again after the block, or after `ttl` seconds if the block takes longer: then
        somebody else may hold it, and keeps it when the block ends.
        """


@runtime_checkable
class Scripting(Protocol):
    """What a store on Redis can do besides: change several keys in one atomic step."""

    async def run(self, script: str, keys: Sequence[str], *arguments: str) -> Any:
        """The result of a Lua script, in one round trip.

        On a Redis Cluster all keys have to lie on one server: they have the same part in braces.
        A script that was not answered in time may have run, and StoreUnavailable is raised.
        """


def milliseconds(ttl: float) -> int:
    """A time to live, for Redis.  ValueError if it is none."""
    if not 0 < ttl < math.inf:
        raise ValueError(f"a time to live is a positive number of seconds, not {ttl}")
    return max(1, round(ttl * 1000))


def check_size(value: bytes) -> None:
    """StoreUnavailable if a value is too long for any store."""
    if len(value) > MAX_VALUE:
        raise StoreUnavailable(f"a value of {len(value):,} bytes is too long")
