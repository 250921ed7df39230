"""The store that all processes of the proxy share: Redis, Valkey, and what speaks like them."""

from __future__ import annotations

from functools import cache, partial
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from .clients import client_of
from .contract import check_size, milliseconds
from .guard import Guard
from .lock import holding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from proxy.telemetry import Metrics

    from .address import Address

_RELEASE = """
if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0
"""


class RedisStore:
    """Waits `timeout` seconds for Redis, and for one that is gone not at all."""

    is_shared = True

    def __init__(self, address: Address, *, timeout: float, metrics: Metrics) -> None:
        self._client = client_of(address, timeout=timeout)
        self._guard = Guard(self._client, str(address), timeout=timeout, metrics=metrics)

    async def start(self) -> None:
        """Connect, if it is there."""
        await self._guard.start()

    async def close(self) -> None:
        await self._guard.close()

    async def get(self, key: str, *, ttl: float | None = None) -> bytes | None:
        if ttl is None:
            (value,) = await self.get_many([key])
            return value
        return await self._guard.run("get", self._get_and_touch, _bytes(key), milliseconds(ttl))

    async def _get_and_touch(self, key: bytes, ttl: int) -> bytes | None:
        try:
            value: bytes | None = await self._client.command("GETEX", key, "PX", ttl)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None  # as MGET has it
            raise
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        return await self._guard.run("get", self._client.get_many, [_bytes(key) for key in keys])

    async def put(
        self, key: str, value: bytes, *, ttl: float, only_if_absent: bool = False
    ) -> bool:
        check_size(value)
        condition = ("NX",) if only_if_absent else ()
        words = ("SET", _bytes(key), value, "PX", milliseconds(ttl), *condition)
        return bool(await self._guard.run("put", self._client.command, *words))

    async def touch(self, key: str, *, ttl: float) -> bool:
        words = ("PEXPIRE", _bytes(key), milliseconds(ttl))
        return bool(await self._guard.run("touch", self._client.command, *words))

    async def delete(self, *keys: str) -> int:
        if not keys:
            return 0
        return await self._guard.run("delete", self._client.delete, *map(_bytes, keys))

    async def run(self, script: str, keys: Sequence[str], *arguments: str) -> Any:
        """The result of a Lua script, which the server knows by its hash after the first time."""
        words = (len(keys), *map(_bytes, keys), *arguments)
        return await self._guard.run("run", self._run, script, words)

    async def _run(self, script: str, words: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._client.command("EVALSHA", _hash(script), *words)
        except NoScriptError:
            return await self._client.command("EVAL", script, *words)

    def lock(self, key: str, *, ttl: float) -> AbstractAsyncContextManager[bool]:
        acquire = partial(self.put, key, ttl=ttl, only_if_absent=True)
        return holding(acquire, partial(self._release, _bytes(key)))

    async def _release(self, key: bytes, token: bytes) -> None:
        await self._guard.run("unlock", self._client.command, "EVAL", _RELEASE, 1, key, token)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


@cache
def _hash(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
