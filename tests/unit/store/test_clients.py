"""Clients are built as their addresses say."""

from __future__ import annotations

import pytest

from proxy.store.address import Address
from proxy.store.clients import client_of


def connections(client):
    """A connection of each pool of a client."""
    if hasattr(client, "_cluster"):
        cluster = client._cluster
        found = type(cluster.startup_nodes[0])("127.0.0.1", 7, **cluster.connection_kwargs)
        return [node.acquire_connection() for node in (*cluster.startup_nodes, found)]
    sentinels = client._sentinel.sentinels if client._sentinel else ()
    pools = [client._pool, *(sentinel.connection_pool for sentinel in sentinels)]
    return [pool.make_connection() for pool in pools]


def client(url):
    return client_of(Address.parse(url), timeout=0.1)


URLS = [
    "redis://a",
    "unix:///a",
    "redis+sentinel://a,b/name",
    "redis+cluster://127.0.0.1,127.0.0.2",
]


@pytest.mark.parametrize("url", URLS)
async def test_none_tries_a_thing_twice(url):
    for connection in connections(client(url)):
        assert connection.retry.get_retries() == 0
        assert connection.protocol == 2


@pytest.mark.parametrize("url", [URLS[0], *URLS[2:]])
async def test_with_tls_all_connections_of_a_pool_have_one_context(url):
    secure = client(url.replace("redis", "rediss", 1) + "?ssl_cert_reqs=none")
    first, *others = connections(secure)
    again, *_ = connections(secure)
    assert again.ssl_context is first.ssl_context
    for connection in (first, *others):
        assert connection.ssl_context.context is not None
        assert not connection.ssl_context.check_hostname


async def test_sentinels_have_a_login_of_their_own():
    url = "redis+sentinel://me:one@a/name/4?sentinel_username=you&sentinel_password=two"
    server, sentinel = connections(client(url))
    assert (server.username, server.password, server.db) == ("me", "one", 4)
    assert (sentinel.username, sentinel.password, sentinel.db) == ("you", "two", 0)


async def test_a_sentinel_that_hangs_leaves_time_for_the_others():
    _, *sentinels = connections(client("redis+sentinel://a,b,c/name"))
    assert sum(sentinel.socket_timeout for sentinel in sentinels) < 0.1
