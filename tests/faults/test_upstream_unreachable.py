"""The upstream cannot be reached, or goes away before it answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
from asyncio.subprocess import DEVNULL

import pytest

from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request
from tests.support.upstream import completion

CONNECT = "dragoman_upstream_attempts_total"


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def reset(call):
    call.reset()


async def test_a_refused_connection_is_a_502_after_one_retry(proxy):
    running = await proxy(f"http://127.0.0.1:{unused_port()}/v1")
    answer = await ask_chat(running)
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert (await running.turns())[0]["termination"] == "upstream_unreachable"
    assert await metric(running, CONNECT) == 2


async def test_a_connection_that_succeeds_the_second_time_is_used(proxy, upstream, monkeypatch):
    up = await upstream()
    running = await proxy(up.url)
    loop = asyncio.get_running_loop()
    real, failures = loop.sock_connect, []

    async def connect(sock, address):
        if not failures and f":{address[1]}/" in up.url:
            failures.append(address)
            raise ConnectionRefusedError(111, "refused")
        await real(sock, address)

    monkeypatch.setattr(loop, "sock_connect", connect)
    assert (await ask_chat(running)).status == 200
    assert failures
    assert len(up.calls) == 1


async def test_an_unknown_host_is_a_502(proxy):
    running = await proxy("http://no-such-host.invalid/v1")
    answer = await ask_chat(running)
    assert (answer.status, answer.code) == (502, "upstream_unreachable")


async def test_a_tls_failure_is_a_502_that_says_nothing_of_tls(proxy, caplog):
    async def speak_plainly(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    running = await proxy(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    answer = await ask_chat(running)
    server.close()
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert b"ssl" not in answer.body.lower()
    assert "ssl" not in caplog.text.lower()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it makes the certificate")
async def test_a_certificate_that_nobody_vouches_for_is_a_502_without_its_details(
    proxy, tmp_path, caplog
):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    names = ("-subj", "/CN=a-name-that-is-not-told", "-keyout", str(key), "-out", str(certificate))
    kind = ("req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    making = await asyncio.create_subprocess_exec("openssl", *kind, *names, stderr=DEVNULL)
    assert await making.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    running = await proxy(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    answer = await ask_chat(running)
    server.close()
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    for word in ("certificate", "a-name-that-is-not-told"):
        assert word not in answer.body.decode() + caplog.text


async def test_a_connection_that_takes_too_long_is_a_502(proxy):
    # A listener whose backlog is full takes no more connections, and refuses none.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        running = await proxy(url, 'upstream.connect_timeout = "200 ms"')
        answer = await ask_chat(running)
    assert (answer.status, answer.code) == (502, "upstream_unreachable")


async def test_the_circuit_opens_after_five_failures_and_warns_once(proxy, caplog):
    running = await proxy(f"http://127.0.0.1:{unused_port()}/v1")
    for _ in range(5):
        assert (await ask_chat(running)).code == "upstream_unreachable"
    tried = await metric(running, CONNECT)
    for _ in range(5):
        answer = await ask_chat(running)
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert answer.header("Retry-After") == "2"
    assert await metric(running, CONNECT) == tried
    warnings = [r for r in caplog.records if "cannot be reached" in r.getMessage()]
    assert [r.levelno for r in warnings] == [logging.WARNING]


async def test_the_circuit_closes_when_a_probe_succeeds(proxy, upstream):
    now = [1000.0]
    up = await upstream()
    port = unused_port()
    running = await proxy(f"http://127.0.0.1:{port}/v1")
    running.server._connections._breaker._clock = lambda: now[0]
    for _ in range(5):
        await ask_chat(running)
    server = await asyncio.start_server(up._serve, "127.0.0.1", port)
    try:
        assert (await ask_chat(running)).status == 502
        now[0] += 2
        assert (await ask_chat(running)).status == 200
        assert (await ask_chat(running)).status == 200
    finally:
        server.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_post_that_may_have_arrived_is_not_sent_again(proxy, upstream, stream):
    up = await upstream(reset)
    running = await proxy(up.url)
    answer = await ask_chat(running, stream=stream)
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert len(up.calls) == 1
    assert (await running.turns())[0]["termination"] == "upstream_unreachable"


async def test_a_post_with_an_idempotency_key_is_sent_again_once(proxy, upstream):
    up = await upstream(reset)
    running = await proxy(up.url)
    answer = await ask(running, request(chat_body(), ("Idempotency-Key", "once")))
    assert answer.status == 502
    assert len(up.calls) == 2
    assert up.calls[0].body == up.calls[1].body


async def test_a_get_is_sent_again_when_a_kept_connection_turns_out_to_be_dead(proxy, upstream):
    async def once_each(call):
        if up.calls.index(call) == 1:
            call.reset()  # the kept connection dies under the second request
        else:
            await call.answer(b'{"data": []}')

    up = await upstream(once_each)
    running = await proxy(up.url)
    for _ in range(2):
        answer = await ask(running, request(method="GET", target="/v1/models"))
        assert answer.status == 200
    assert len(up.calls) == 3


async def test_a_post_is_not_lost_to_a_kept_connection_that_was_closed(proxy, upstream):
    noticed = asyncio.Queue()

    async def answer_and_close(call):
        await call.answer(completion("Hello."))
        call.writer.write_eof()
        await call.wait_closed()
        noticed.put_nowait(call)

    up = await upstream(answer_and_close)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        for _ in range(5):
            await client.send(request(chat_body()))
            assert (await client.answer()).status == 200
            await noticed.get()
    assert len(up.calls) == 5
