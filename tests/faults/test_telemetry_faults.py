"""Telemetry never blocks or fails a request, whatever becomes of what it says."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request

UNCOUNTED = "telemetry.estimate_usage = false"


def settings(url: str, more: str = "") -> str:
    return f"""
    upstream.base_url = "{url}"
    server.port = 0
    server.admin_port = 0
    server.drain = "1 s"
    {UNCOUNTED}
    {more}
    """


class Collector:
    """A collector that has one of many troubles."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                if self.answer is None:
                    await asyncio.sleep(60)
                    return
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()


TROUBLES = {
    "refuses": None,
    "is a black hole": Collector(None),
    "is overloaded": Collector(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
    "does not know us": Collector(b"HTTP/1.1 401 Who?\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_collector_in_trouble_costs_no_request_no_flood_of_log_and_no_long_exit(
    serve, upstream, trouble
):
    collector = TROUBLES[trouble]
    server = None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if collector is not None:
        server = await asyncio.start_server(collector.serve, "127.0.0.1", port)
    process = await serve(
        settings((await upstream()).url),
        environ={
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        },
    )
    durations = []
    for _ in range(30):
        async with await process.connect() as client:
            start = time.perf_counter()
            await client.send(request(chat_body()))
            assert (await client.answer()).status == 200
            durations.append(time.perf_counter() - start)
        await asyncio.sleep(0.02)
    assert sorted(durations)[15] < 0.1
    process.terminate()
    start = time.perf_counter()
    assert await process.exits(10) == 0
    assert time.perf_counter() - start < 7
    assert len(await process.turns(30)) == 30
    lines = [
        line for line in process.said.splitlines() if line.startswith(("WARNING", "ERROR", "Trace"))
    ]
    assert len(lines) <= 4, process.said
    if server is not None:
        server.close()
        await server.wait_closed()


async def test_spans_that_find_no_room_are_dropped_and_counted(proxy, upstream, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "30")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "30")
    black_hole = Collector(None)
    server = await asyncio.start_server(black_hole.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    toml = f'telemetry.endpoint = "http://127.0.0.1:{port}"\ntelemetry.flush_deadline = "200 ms"'
    running = await proxy((await upstream()).url, f"{toml}\n{UNCOUNTED}")
    for _ in range(40):
        assert (await ask_chat(running)).status == 200
    assert await metric(running, "dragoman_telemetry_spans_total") >= 30
    loop = asyncio.get_running_loop()
    start = loop.time()
    await running.stop()
    assert loop.time() - start < 2
    server.close()
    await server.wait_closed()


async def test_a_reader_of_stdout_that_stops_stops_no_request(serve, upstream):
    """The pipe is full after some hundred lines; the proxy serves on, counts what is lost, and
    still exits."""
    read_end, write_end = os.pipe()
    more = 'telemetry.flush_deadline = "500 ms"'
    process = await serve(settings((await upstream()).url, more), stdout=write_end)
    os.close(write_end)
    try:
        async with await process.connect() as client:
            for _ in range(400):
                await client.send(request(chat_body()))
                assert (await client.answer(2)).status == 200
        process.terminate()
        assert await process.exits(7) == 0
        os.set_blocking(read_end, False)
        data = os.read(read_end, 1 << 20)
        assert data.count(b"\n") > 50
        assert data.startswith(b"{")
    finally:
        os.close(read_end)


async def test_a_reader_of_stdout_that_is_gone_stops_no_request(serve, upstream):
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = await serve(settings((await upstream()).url), stdout=write_end)
    os.close(write_end)
    for _ in range(5):
        async with await process.connect() as client:
            await client.send(request(chat_body()))
            assert (await client.answer(2)).status == 200
        await asyncio.sleep(0.06)
    process.terminate()
    assert await process.exits(7) == 0
    assert "Traceback" not in process.said


async def test_a_reader_of_stdout_that_is_slow_gets_whole_lines(proxy, upstream):
    running = await proxy((await upstream()).url, UNCOUNTED)
    async with await Client.open(running.server.port) as client:
        for number in range(300):  # more than a pipe holds
            await client.send(request(chat_body(model=f"m{number}")))
            assert (await client.answer()).status == 200
    turns = await running.turns(300)
    assert [turn["model"] for turn in turns] == [f"m{number}" for number in range(300)]


HOSTILE = {
    "bytes in a user agent": (("User-Agent", "na\udcefve \udcff"),),
    "bytes in a traceparent": (("traceparent", "00-\udcff-00-01"),),
    "a traceparent of zeros": (("traceparent", f"00-{'0' * 32}-{'0' * 16}-01"),),
    "a traceparent of the future": (("traceparent", f"cc-{'a' * 32}-{'b' * 16}-ff-what"),),
    "a tracestate that is none": (
        ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),
        ("tracestate", "=,\udcff=\udcfe,a=b,a=c," + "x" * 600),
    ),
    "a long tracestate": (
        ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),
        ("tracestate", ",".join(f"k{n}=v" for n in range(64))),
    ),
    "two traceparents": tuple(("traceparent", f"00-{c * 32}-{c * 16}-01") for c in "ab"),
    "baggage": (("baggage", "a=b;c,=,%ff" * 50),),
    "an odd session": (("x-dragoman-session", "../../\udcff"),),
    "a long user agent": (("User-Agent", "x" * 60_000),),
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
async def test_what_clients_say_of_themselves_loses_no_span(
    proxy, upstream, collector, headers, caplog
):
    toml = f'{UNCOUNTED}\ntelemetry.endpoint = "{collector.url}"'
    running = await proxy((await upstream()).url, toml)
    assert (await ask(running, request(chat_body(), *headers))).status == 200
    assert (await ask_chat(running)).status == 200
    assert len(await running.turns(2)) == 2
    await running.stop()
    assert len(collector.spans) == 6
    assert all("user_agent.original" in s.attributes for s in collector.spans if s.kind == "SERVER")
    assert "Failed to encode" not in caplog.text


ODD_REQUESTS = {
    "a lone surrogate in the model": b'{"model": "\\ud800", "messages": []}',
    "no UTF-8 in the model": b'{"model": "\xff", "messages": []}',
    "a long model": b'{"model": "%b", "messages": []}' % (b"m" * 100_000),
    "surrogates in what is captured": b'{"messages": [{"role": "\\ud800", "content": "\\udfff"}]}',
    "odd numbers": b'{"seed": 1e400, "max_tokens": 99999999999999999999999, "temperature": "hot",'
    b' "n": 12345678901234567890, "stop": ["\\ud800", 1], "messages": []}',
    "odd messages": b'{"messages": [1, {"content": [1, {"type": {}}]}, {"tool_calls": 5}], "tools": '
    b'{"a": 1}}',
}


@pytest.mark.parametrize("body", ODD_REQUESTS.values(), ids=ODD_REQUESTS)
async def test_what_clients_ask_loses_no_span(proxy, upstream, collector, body):
    async def script(call):
        await call.answer(b"{}")

    toml = f'{UNCOUNTED}\ntelemetry.endpoint = "{collector.url}"\ntelemetry.capture_content = true'
    running = await proxy((await upstream(script)).url, toml)
    assert (await ask(running, request(body))).status == 200
    assert (await ask_chat(running)).status == 200
    assert len(await running.turns(2)) == 2
    await running.stop()
    assert len(collector.spans) == 6


@pytest.mark.parametrize("target", ["/v1/models/%FF", "/v1/%ff%fe?a=%ff", "/v1/" + "x" * 60_000])
async def test_what_clients_call_a_path_loses_no_span(proxy, upstream, collector, target):
    async def script(call):
        await call.answer(b"{}")

    toml = f'telemetry.endpoint = "{collector.url}"'
    running = await proxy((await upstream(script)).url, toml)
    for path in (target, "/v1/models"):
        assert (await ask(running, request(method="GET", target=path))).status == 200
    await running.stop()
    assert len(collector.spans) == 4


@pytest.mark.parametrize("target", ["/v1/models/\udcff", "/v1/\udce9?a=\udcff"])
async def test_a_path_of_raw_bytes_is_a_400(proxy, upstream, target):
    running = await proxy((await upstream()).url)
    assert (await ask(running, request(method="GET", target=target))).status == 400
