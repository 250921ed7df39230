"""The ways to a store: bounded connections, a socket, TLS, a Cluster, Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import ssl

import pytest

from proxy.errors import ConfigError
from proxy.store.clients import CONNECTIONS
from tests.support.redis import behind_sentinel, cluster, running, until
from tests.support.stores import (
    FROZEN_COST,
    RECOVERY,
    TIMEOUT,
    recovery,
    refused,
    store_at,
)

ALL = CONNECTIONS + 2
"""With the one that looks for a server that is gone, and the one of the test."""


async def test_hundreds_of_operations_at_once_share_a_bounded_number_of_connections():
    async with running() as server, store_at(server.url) as store:
        await store.put("a", b"1", ttl=60)
        assert await asyncio.gather(*(store.get("a") for _ in range(200))) == [b"1"] * 200
        assert len(await server.client.client_list()) <= ALL


async def test_callers_that_leave_take_no_connection_and_no_answer_with_them():
    async with running() as server, store_at(server.url) as store:
        keys = [f"{number}" for number in range(40)]
        for key in keys:
            await store.put(key, key.encode(), ttl=60)
        for _ in range(20):
            reading = [asyncio.create_task(store.get(key)) for key in keys]
            await asyncio.sleep(random.uniform(0, 0.005))
            for task in reading[::2]:
                task.cancel()
            await asyncio.wait(reading)
            assert all(task.cancelled() or task.result() for task in reading)
        expected = [key.encode() for key in keys]
        assert await asyncio.gather(*map(store.get, keys)) == expected
        assert len(await server.client.client_list()) <= ALL


async def test_a_unix_socket():
    async with (
        running() as server,
        store_at(f"unix://{server.socket}?db=1", timeout=TIMEOUT) as store,
    ):
        await store.put("a", b"1", ttl=60)
        assert await store.get("a") == b"1"
        server.freeze()
        assert sum([await refused(store) for _ in range(9)]) < FROZEN_COST
        server.thaw()
        assert await recovery(store) < RECOVERY


@pytest.fixture
async def tls(tmp_path):
    """Put TLS in front of a port: the port where it is, and the certificate to trust."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    files = ("-keyout", str(key), "-out", str(certificate))
    quiet = asyncio.subprocess.DEVNULL
    making = await asyncio.create_subprocess_exec("openssl", *kind, *names, *files, stderr=quiet)
    assert await making.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with contextlib.AsyncExitStack() as stack:

        async def front(port):
            async def relay(*client):
                behind = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(copy(client[0], behind[1]), copy(behind[0], client[1]))

            server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
            stack.callback(server.close)
            return server.sockets[0].getsockname()[1]

        yield front, certificate


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it makes the certificate")
async def test_tls_with_a_certificate_that_is_trusted_and_with_one_that_is_not(tls, caplog):
    front, certificate = tls
    async with running() as server:
        url = f"rediss://127.0.0.1:{await front(server.port)}"
        async with store_at(f"{url}?ssl_ca_certs={certificate}") as store:
            found = await asyncio.gather(*(store.put(key, b"1", ttl=60) for key in "abcdefgh"))
            assert found == [True] * 8
        assert not caplog.text
        async with store_at(url) as store:
            await refused(store)
        assert "is gone (SSLCertVerificationError)" in caplog.text
        async with store_at(f"{url}?ssl_cert_reqs=none") as store:
            assert await store.get("a") == b"1"


async def test_a_certificate_that_cannot_be_read_is_a_mistake_of_the_configuration():
    with pytest.raises(ConfigError, match=r"store\.url: the certificates cannot be read: No such"):
        async with store_at("rediss://127.0.0.1?ssl_ca_certs=/nowhere.pem"):
            pass


async def test_the_keys_of_a_cluster_are_everywhere():
    async with cluster() as servers:
        hosts = ",".join(f"localhost:{server.port}" for server in servers)
        async with store_at(f"redis+cluster://{hosts}") as store:
            keys = [f"{number}" for number in range(100)]
            for key in keys:
                assert await store.put(key, key.encode(), ttl=60)
            found = await store.get_many([*keys, "none", "0"])
            assert found == [*(key.encode() for key in keys), None, b"0"]
            sizes = [await server.client.dbsize() for server in servers]
            assert all(sizes)
            assert await store.touch("7", ttl=60)
            assert await store.get("8", ttl=60) == b"8"
            assert await store.delete(*keys, "none") == 100
            async with store.lock("a", ttl=60) as first, store.lock("a", ttl=60) as second:
                assert (first, second) == (True, False)
            async with store.lock("a", ttl=60) as third:
                assert third


async def test_a_cluster_without_one_of_its_servers_is_gone_until_it_is_back():
    async with (
        cluster() as servers,
        store_at(f"redis+cluster://{servers[0].url[8:]}", timeout=TIMEOUT) as store,
    ):
        keys = [f"{number}" for number in range(20)]
        assert await store.get_many(keys) == [None] * 20
        servers[2].freeze()
        assert sum([await refused(store, store.get_many(keys)) for _ in range(20)]) < FROZEN_COST
        servers[2].thaw()
        assert await recovery(store) < 2 * RECOVERY  # its servers have to find each other again
        assert await store.get_many(keys) == [None] * 20


@pytest.mark.slow
async def test_the_replica_is_used_when_sentinel_has_made_it_the_master():
    async with behind_sentinel() as (master, replica, sentinel):
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/store"
        async with store_at(url, timeout=TIMEOUT) as store:
            assert await store.put("a", b"1", ttl=60)
            await until(lambda: replica.client.get("a"))
            master.freeze()
            assert sum([await refused(store) for _ in range(20)]) < FROZEN_COST
            assert await recovery(store) < 10
            assert await store.get("a") == b"1"
            await until(replica.answers)  # Sentinel closes its connections
            assert await replica.client.get("probe") == b"1"
