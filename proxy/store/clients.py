"""The clients of a Redis server, of one behind Sentinel, and of a Cluster; none retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address import Address

CONNECTIONS = 16
"""Operations under way at once, each on a connection of its own; others wait for their turn."""

POOL = CONNECTIONS + 1
"""One more connection looks for a server that is gone."""

CONNECT_SECONDS = 1.0
"""How long that may take, and the first connection at start: nobody waits for it."""


class Client(Protocol):
    """What differs between one server and many."""

    async def command(self, *words: str | bytes | int) -> Any: ...

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    async def delete(self, *keys: bytes) -> int: ...

    async def ping(self) -> None:
        """Ask for a sign of life."""

    async def reconnect(self) -> None:
        """Give up all idle connections: what they lead to may be elsewhere now.  Make a new one."""

    async def close(self) -> None: ...


class Server:
    """One server, wherever its connections find it."""

    def __init__(self, pool: ConnectionPool, sentinel: Sentinel | None = None) -> None:
        self._redis = Redis.from_pool(pool)
        self._pool = pool
        self._sentinel = sentinel

    async def command(self, *words: str | bytes | int) -> Any:
        return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = await self.command("MGET", *keys)
        return found

    async def delete(self, *keys: bytes) -> int:
        return int(await self.command("UNLINK", *keys))

    async def ping(self) -> None:
        await self.command("PING")

    async def reconnect(self) -> None:
        await self._pool.disconnect(inuse_connections=False)
        await self.ping()

    async def close(self) -> None:
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()


class Cluster:
    """Many servers, each with a part of the keys."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster

    async def command(self, *words: str | bytes | int) -> Any:
        return await self._cluster.execute_command(*words)

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) == 1:
            found: list[bytes | None] = await self.command("MGET", *keys)
            return found
        return await self._cluster.mget_nonatomic(keys)

    async def delete(self, *keys: bytes) -> int:
        return int(await self._cluster.unlink(*keys))

    async def ping(self) -> None:
        """All servers have to answer: without one of them, its part of the keys is gone."""
        for node in self._cluster.get_primaries():
            await node.execute_command("PING")

    async def reconnect(self) -> None:
        await self._cluster.aclose()
        self._cluster = await self._cluster.initialize()
        await self.ping()

    async def close(self) -> None:
        await self._cluster.aclose()


def client_of(address: Address, *, timeout: float) -> Client:
    """A client that is not connected yet.  OSError if it cannot read its certificates."""
    if address.kind == "cluster":
        return Cluster(_cluster(address, timeout))
    given = _connection(address) | {"db": address.database, "max_connections": POOL}
    if address.kind == "sentinel":
        sentinel = _sentinel(address, timeout)
        given["connection_class"] = _SentinelTLS if address.has_tls else SentinelManagedConnection
        pool = SentinelConnectionPool(address.service, sentinel, **given)  # type: ignore[no-untyped-call]
        return Server(pool, sentinel)
    if address.kind == "unix":
        given |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        host, port = address.nodes[0]
        given |= {"connection_class": _plain_or_tls(address), "host": host, "port": port}
    return Server(ConnectionPool(**given))


def _sentinel(address: Address, timeout: float) -> Sentinel:
    # One sentinel that hangs must leave time to ask the others.
    share = timeout / (len(address.nodes) + 1)
    given = _common(address) | {"socket_timeout": share, "socket_connect_timeout": share}
    given |= {key: address.options.get(f"sentinel_{key}") for key in ("username", "password")}
    given["connection_class"] = _plain_or_tls(address)
    # It would make connections of its own, without our context.
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [
        Redis.from_pool(ConnectionPool(host=host, port=port, **given))
        for host, port in address.nodes
    ]
    return sentinel


def _cluster(address: Address, timeout: float) -> RedisCluster:
    given = _connection(address) | {"max_connections": POOL}
    # It asks many nodes at once, and forgets the others when one fails: they must end by themselves.
    given["socket_timeout"] = timeout
    context = given.pop("context", None)
    cluster = RedisCluster(startup_nodes=[ClusterNode(*node) for node in address.nodes], **given)
    if context is not None:  # there is no argument for it
        cluster.connection_kwargs |= {"connection_class": _TLS, "context": context}
        for node in cluster.startup_nodes:
            node.connection_class = _TLS
            node.connection_kwargs["context"] = context
    return cluster


class _TLS(SSLConnection):
    """All connections have one context: to make another takes 50 ms, and the event loop waits."""

    def __init__(self, *, context: RedisSSLContext, **given: Any) -> None:
        super().__init__(**given)
        self.ssl_context = context


class _SentinelTLS(SentinelManagedConnection, _TLS):
    pass


def _plain_or_tls(address: Address) -> type[Connection]:
    return _TLS if address.has_tls else Connection


def _connection(address: Address) -> dict[str, Any]:
    return _common(address) | {"username": address.username, "password": address.password}


def _common(address: Address) -> dict[str, Any]:
    """What is true of every connection.  How long an operation may take, the guard knows."""
    common: dict[str, Any] = {
        "protocol": 2,
        "driver_info": None,  # two commands more for each connection
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return common | ({"context": _context(address)} if address.has_tls else {})


def _context(address: Address) -> RedisSSLContext:
    options = address.options
    context = RedisSSLContext(
        keyfile=options.get("ssl_keyfile"),
        certfile=options.get("ssl_certfile"),
        ca_certs=options.get("ssl_ca_certs"),
        cert_reqs=options.get("ssl_cert_reqs", "required"),
        check_hostname=options.get("ssl_check_hostname") != "false",
    )
    context.get()  # reads the certificates
    return context
