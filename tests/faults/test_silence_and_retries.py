"""An upstream that is silent, and one that says: try again."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request
from tests.support.upstream import chunks, completion, head

UNCOUNTED = "telemetry.estimate_usage = false"
SHORT = f'upstream.first_byte_timeout = "300 ms"\nupstream.idle_timeout = "300 ms"\n{UNCOUNTED}'
STREAM_EVENTS = chunks("one two", {})


async def silent(call):
    await call.closed.wait()


async def head_only(call):
    await call.start_stream()
    await call.closed.wait()


async def one_event(call):
    await call.start_stream()
    await call.chunk(STREAM_EVENTS[0])
    await call.closed.wait()


async def half_a_body(call):
    body = completion("Hello.")
    fields = ("Content-Type", "application/json"), ("Content-Length", str(len(body)))
    await call.send(head("200 OK", *fields) + body[:20])
    await call.closed.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_before_the_answer_is_a_504(proxy, upstream, stream):
    up = await upstream(silent)
    running = await proxy(up.url, SHORT)
    answer = await ask_chat(running, stream=stream)
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    await up.calls[0].wait_closed()
    assert len(up.calls) == 1
    assert (await running.turns())[0]["termination"] == "upstream_timeout"


@pytest.mark.parametrize("script", [head_only, one_event])
async def test_silence_inside_a_stream_ends_it_with_an_error_event(proxy, upstream, script):
    up = await upstream(script)
    running = await proxy(up.url, SHORT)
    answer = await ask_chat(running, stream=True)
    assert answer.status == 200
    assert answer.event_code == "upstream_timeout"
    await up.calls[0].wait_closed()
    assert (await running.turns())[0]["termination"] == "upstream_timeout"


async def test_silence_inside_an_answer_in_one_piece_is_a_504(proxy, upstream):
    up = await upstream(half_a_body)
    running = await proxy(up.url, SHORT)
    answer = await ask_chat(running)
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    await up.calls[0].wait_closed()


async def test_silence_on_another_path_is_a_504_or_an_aborted_connection(proxy, upstream):
    scripts = iter((silent, half_a_body))

    async def script(call):
        await next(scripts)(call)

    up = await upstream(script)
    running = await proxy(up.url, SHORT)
    answer = await ask(running, request(method="GET", target="/v1/models"))
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    answer = await ask(running, request(method="GET", target="/v1/models"))
    assert answer.status == 200
    assert answer.broken
    await up.calls[1].wait_closed()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_takes_longer_than_every_limit_goes_on_while_it_speaks(
    proxy, upstream, stream
):
    """There is no limit on the whole of it, only on silence."""
    pieces = [*STREAM_EVENTS[:1] * 10, *STREAM_EVENTS] if stream else [b" "] * 14 + [b"{}"]

    async def slow(call):
        kind = "text/event-stream" if stream else "application/json"
        fields = ("Content-Type", kind), ("Transfer-Encoding", "chunked")
        await call.send(head("200 OK", *fields))
        for piece in pieces:
            await asyncio.sleep(0.05)
            await call.chunk(piece)
        await call.end_chunks()

    running = await proxy((await upstream(slow)).url, SHORT)
    answer = await ask_chat(running, stream=stream)
    assert answer.body == b"".join(pieces)


async def test_a_client_that_reads_slowly_is_not_taken_for_a_silent_upstream(proxy, upstream):
    """While we wait for the client, nobody waits for the upstream."""
    event = b": " + b"x" * (1 << 20) + b"\n\n"

    async def burst(call):
        await call.start_stream()
        for _ in range(24):
            await call.chunk(event)
        for part in STREAM_EVENTS:
            await call.chunk(part)
        await call.end_chunks()

    running = await proxy((await upstream(burst)).url, 'upstream.idle_timeout = "1 s"')
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        await asyncio.sleep(2.5)
        answer = await client.answer(30)
    assert answer.body.endswith(b"data: [DONE]\n\n")


def refuses_first(times: int, status: str, *headers: tuple[str, str]):
    refusals = iter(range(times))

    async def script(call):
        if next(refusals, None) is not None:
            await call.answer(b'{"error": {"code": "busy"}}', status=status, headers=headers)
        else:
            await call.chat()

    return script


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_refusal_is_not_retried_unless_the_operator_says_so(proxy, upstream, status):
    up = await upstream(refuses_first(1, status))
    running = await proxy(up.url)
    assert (await ask_chat(running)).status == int(status[:3])
    assert len(up.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_retried_after_the_time_that_the_upstream_names(proxy, upstream, stream):
    up = await upstream(refuses_first(2, "429 Too Many Requests", ("retry-after-ms", "150")))
    running = await proxy(up.url, "upstream.retries = 2")
    loop = asyncio.get_running_loop()
    start = loop.time()
    answer = await ask_chat(running, stream=stream)
    assert answer.status == 200
    assert loop.time() - start >= 0.3
    assert [call.body for call in up.calls] == [up.calls[0].body] * 3
    turn = (await running.turns())[0]
    assert turn["overhead_ms"] < 250  # what was waited is not ours
    assert await metric(running, "dragoman_upstream_attempts_total") == 3


async def test_retries_end_at_the_number_that_the_operator_names(proxy, upstream):
    up = await upstream(refuses_first(9, "503 Service Unavailable", ("Retry-After", "0")))
    running = await proxy(up.url, "upstream.retries = 2")
    answer = await ask_chat(running)
    assert (answer.status, answer.json) == (503, {"error": {"code": "busy"}})
    assert len(up.calls) == 3


@pytest.mark.parametrize("value", ["61", "3600", "inf", "1e300"])
async def test_an_upstream_that_asks_for_too_long_is_not_waited_for(proxy, upstream, value):
    up = await upstream(refuses_first(1, "429 Too Many Requests", ("Retry-After", value)))
    running = await proxy(up.url, "upstream.retries = 1")
    answer = await ask_chat(running)
    assert (answer.status, answer.header("Retry-After")) == (429, value)
    assert len(up.calls) == 1


@pytest.mark.parametrize("value", ["-5", "nan", "0.0"])
async def test_a_retry_after_that_makes_no_sense_costs_no_time(proxy, upstream, value):
    up = await upstream(refuses_first(1, "429 Too Many Requests", ("Retry-After", value)))
    running = await proxy(up.url, "upstream.retries = 1")
    assert (await ask_chat(running)).status == 200
    assert (await running.turns())[0]["total_ms"] < 450


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "404 Not Found"])
async def test_what_is_the_clients_fault_is_never_retried(proxy, upstream, status):
    up = await upstream(refuses_first(1, status))
    running = await proxy(up.url, "upstream.retries = 3")
    assert (await ask_chat(running)).status == int(status[:3])
    assert len(up.calls) == 1


async def test_retries_concern_chat_completions_only(proxy, upstream):
    up = await upstream(refuses_first(1, "503 Service Unavailable"))
    running = await proxy(up.url, "upstream.retries = 3")
    answer = await ask(running, request(b"{}", target="/v1/embeddings"))
    assert answer.status == 503
    assert len(up.calls) == 1
