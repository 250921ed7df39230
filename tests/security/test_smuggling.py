"""Requests that two parsers could read in two ways are read in none.

The cases are those of https://github.com/aio-libs/aiohttp/security/advisories: CVE-2023-37276,
-47627, -47641, CVE-2024-23829, -52304, CVE-2025-53643, -69224, and of the HTTP Garden.
"""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import http_parser

from tests.support.raw import CHAT, Client, request
from tests.support.upstream import completion

PREFIX = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
SECOND = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def head(*lines: bytes) -> bytes:
    return PREFIX + b"\r\n".join(lines) + b"\r\n\r\n"


REFUSED = {
    "length, then coding": head(b"Content-Length: 6", CHUNKED[:-2]) + b"0\r\n\r\nX",
    "coding, then length": head(CHUNKED[:-2], b"Content-Length: 6") + b"0\r\n\r\nX",
    "two lengths": head(b"Content-Length: 2", b"Content-Length: 3") + b"{}X",
    "two equal lengths": head(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
    "lengths in one": head(b"Content-Length: 2, 2") + b"{}",
    "a length with a sign": head(b"Content-Length: +2") + b"{}",
    "a negative length": head(b"Content-Length: -2") + b"{}",
    "a hexadecimal length": head(b"Content-Length: 0x2") + b"{}",
    "a length with an underscore": head(b"Content-Length: 1_0") + b"{}",
    "a length of other digits": head("Content-Length: ٢".encode()) + b"{}",
    "an empty length": head(b"Content-Length: ") + b"{}",
    "a length with a space": head(b"Content-Length: 1 0") + b"{}",
    "a length without end": head(b"Content-Length: " + b"9" * 40) + b"{}",
    "xchunked": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunked, identity": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "identity": head(b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "chunked twice": head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "two codings": head(CHUNKED[:-2], CHUNKED[:-2]) + b"0\r\n\r\n",
    "chunked with a tab": head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "quoted": head(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n",
    "a space before the colon": head(b"Content-Length : 2") + b"{}",
    "a tab before the colon": head(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n",
    "a folded header": head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n",
    "a folded value": head(b"X-A: a", b"\tb"),
    "a header without a name": head(b": a"),
    "a header without a colon": head(b"Content-Length"),
    "a space in a name": head(b"Content Length: 2") + b"{}",
    "NUL in a name": head(b"Content\0Length: 2") + b"{}",
    "NUL in a value": head(b"X-A: a\0b"),
    "a bare CR in a value": head(b"X-A: a\rTransfer-Encoding: chunked"),
    "a bare LF in a value": head(b"X-A: a\x01\nb"),
    "a bare CR at a line's end": PREFIX + b"X-A: a\r\rX-B: b\r\n\r\n",
    "8-bit names": head("Contént-Length: 2".encode()) + b"{}",
    "no size": head(CHUNKED[:-2]) + b"\r\n\r\n",
    "a size with a sign": head(CHUNKED[:-2]) + b"+2\r\n{}\r\n0\r\n\r\n",
    "a negative size": head(CHUNKED[:-2]) + b"-2\r\n{}\r\n0\r\n\r\n",
    "a size with 0x": head(CHUNKED[:-2]) + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size with an underscore": head(CHUNKED[:-2]) + b"0_2\r\n{}\r\n0\r\n\r\n",
    "a size with a space": head(CHUNKED[:-2]) + b" 2\r\n{}\r\n0\r\n\r\n",
    "a size that overflows": head(CHUNKED[:-2]) + b"1" + b"0" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "a size that ends with LF": head(CHUNKED[:-2]) + b"2\n{}\r\n0\r\n\r\n",
    "a chunk that ends with LF": head(CHUNKED[:-2]) + b"2\r\n{}\n0\r\n\r\n",
    "a chunk that is longer": head(CHUNKED[:-2]) + b"1\r\n{}\r\n0\r\n\r\n",
    "a bare CR in an extension": head(CHUNKED[:-2]) + b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    "a length in the trailers": head(CHUNKED[:-2]) + b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
    "a coding in the trailers": head(CHUNKED[:-2]) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": head(b"Host: b", b"Content-Length: 2") + b"{}",
    "no version": b"POST /v1/chat/completions\r\nHost: a\r\n\r\n",
    "an odd version": PREFIX.replace(b"HTTP/1.1", b"HTTP/1.1.1") + b"\r\n",
    "another protocol": PREFIX.replace(b"HTTP/1.1", b"HTCPCP/1.0") + b"\r\n",
    "a space in the target": PREFIX.replace(b"/v1", b"/v 1", 1) + b"\r\n",
    "a method that is none": PREFIX.replace(b"POST", b"PO ST", 1) + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two hundred headers": head(*[b"X-%d: a" % n for n in range(200)]),
    "a long header": head(b"X-A: " + b"a" * 100_000),
    "a long target": b"GET /v1/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def hears_all(call):
    await call.answer(completion("Hello."))


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_ambiguous_is_refused_and_its_connection_closed(
    proxy, upstream, data, in_pieces, caplog
):
    up = await upstream(hears_all)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        pieces = [data[i : i + 7] for i in range(0, 60, 7)] if in_pieces else []
        for piece in (*pieces, data[7 * len(pieces) :] + SECOND):
            if client.writer.is_closing():
                break
            client.writer.write(piece)
            await asyncio.sleep(0.001 if in_pieces else 0)
        answers = await client.rest()
    assert up.calls == []
    if in_pieces and not answers:
        return  # the connection was closed on what we were still sending
    assert answers.partition(b" ")[2].startswith(b"400 Bad Request\r\n")
    assert answers.count(b"HTTP/") == 1
    assert "smuggled" not in caplog.text
    assert b'"type":"invalid_request_error"' in answers


ACCEPTED = {
    "a length of zeros": head(b"Content-Length: 0002") + b"{}",
    "chunked in capitals": head(b"Transfer-Encoding: CHUNKED") + b"2\r\n{}\r\n0\r\n\r\n",
    "a size of zeros": head(CHUNKED[:-2]) + b"0002\r\n{}\r\n0\r\n\r\n",
    "an extension": head(CHUNKED[:-2]) + b"2;a=b\r\n{}\r\n0\r\n\r\n",
    "a trailer": head(CHUNKED[:-2]) + b"2\r\n{}\r\n0\r\nX-A: b\r\n\r\n",
    "an underscore in a name": head(b"Content_Length: 9", b"Content-Length: 2") + b"{}",
    "names in any case": head(b"cOnTeNt-LeNgTh: 2") + b"{}",
    "coded twice": head(b"Transfer-Encoding: gzip, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_passes_is_framed_anew(proxy, upstream, data):
    """However the client frames its body, the upstream sees one body and the next request."""
    up = await upstream(hears_all)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        await client.send(data + SECOND)
        answer = await client.answer()
        if answer.status == 400:
            assert up.calls == []
            return
        assert answer.status == 200
        assert (await client.answer()).status == 200
    assert [call.body for call in up.calls] == [b"{}", b""]
    assert [call.target for call in up.calls] == [CHAT, "/v1/smuggled"]
    framing = [n.lower() for n, _ in up.calls[0].headers]
    assert ("content-length" in framing) != ("transfer-encoding" in framing)
    for name in ("trailer", "te", "content_length"):
        assert name not in framing or name == "content_length"


async def test_a_body_that_nobody_read_is_not_taken_for_a_request(proxy, upstream):
    """Answered here, with its body unread: Pingora's CVE-2025-4366."""
    up = await upstream(hears_all)
    running = await proxy(up.url, 'server.max_body = "1 kB"')
    for target in ("/nowhere", "/v1/../x"):
        async with await Client.open(running.server.port) as client:
            await client.send(request(SECOND, target=target))
            assert (await client.answer()).status in (400, 404)
            await client.send(request(method="GET", target="/v1/models"))
            answer = await client.answer()
            assert answer.status == 200
    assert [call.target for call in up.calls] == ["/v1/models"] * 2


@pytest.mark.parametrize("protocol", ["h2c", "tls/1.3", "websocket, h2c", "x"])
async def test_an_upgrade_is_not_forwarded_and_hides_no_request(proxy, upstream, protocol):
    up = await upstream(hears_all)
    running = await proxy(up.url)
    upgrade = (
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", protocol),
        ("HTTP2-Settings", "A"),
    )
    async with await Client.open(running.server.port) as client:
        await client.send(request(b"{}", *upgrade))
        assert (await client.answer()).status == 200
        await client.send(SECOND)
        assert (await client.answer()).status == 200
    for call in up.calls:
        for name in ("Upgrade", "HTTP2-Settings", "Connection"):
            assert protocol not in (call.header(name) or "")
    assert [call.target for call in up.calls] == [CHAT, "/v1/smuggled"]  # as it would be without


async def test_headers_that_connection_names_end_here(proxy, upstream):
    up = await upstream(hears_all)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        fields = (
            ("Connection", "X-Secret, close"),
            ("X-Secret", "a"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
        )
        await client.send(request(b"{}", *fields))
        assert (await client.answer()).status == 200
    for name in ("X-Secret", "Keep-Alive", "TE", "Proxy-Connection"):
        assert up.calls[0].header(name) is None


@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 2\r\n" + CHUNKED])
async def test_http_1_0_with_a_coding_is_refused_or_closed(proxy, upstream, framing):
    up = await upstream(hears_all)
    running = await proxy(up.url)
    async with await Client.open(running.server.port) as client:
        data = PREFIX.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + framing + b"\r\n"
        await client.send(data + b"2\r\n{}\r\n0\r\n\r\n" + SECOND)
        answers = await client.rest()
    assert answers.count(b"HTTP/1.") == 1
    assert "/v1/smuggled" not in [call.target for call in up.calls]


async def test_an_answer_of_the_upstream_is_framed_anew(proxy, upstream):
    """It says two things about its length; a client is told one."""

    async def script(call):
        fields = (
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n"
        )
        await call.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n2\r\n{}\r\n0\r\n\r\n")

    running = await proxy((await upstream(script)).url)
    async with await Client.open(running.server.port) as client:
        for target in (CHAT, "/v1/embeddings"):
            await client.send(request(b"{}", target=target))
            answer = await client.answer()
            assert answer.status in (200, 502)
            names = [name.lower() for name, _ in answer.headers]
            assert ("content-length" in names) != ("transfer-encoding" in names)


def test_the_parser_is_the_one_that_was_examined():
    assert http_parser.HttpRequestParser is http_parser.HttpRequestParserC
    assert http_parser.HttpResponseParser is http_parser.HttpResponseParserC
