"""The real openai client speaks over a WebSocket through the proxy."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.support.frames import TEXT, accept


async def converse(call):
    """A realtime session: greet, answer each response.create, close when told to."""
    socket = await accept(call)
    await socket.send(TEXT, b'{"type":"session.created","event_id":"e1","session":{"x":1.0}}')
    while frame := await socket.receive():
        if frame.kind != TEXT:
            await socket.close(frame.code)
            break
        event = msgspec.json.decode(frame.payload)
        if event["type"] == "session.update":
            await socket.close(3000, "invalid_request_error.no")
        for delta in ("Hi", " ünï 🎉"):
            answer = {"type": "response.output_text.delta", "event_id": "e", "delta": delta}
            await socket.send(TEXT, msgspec.json.encode(answer))
        await socket.send(TEXT, b'{"type":"response.done","event_id":"e2","response":{}}')


async def test_a_realtime_session(plain, upstream):
    up = await upstream(converse)
    running = await plain(up.url)
    async with (
        running.client() as client,
        client.realtime.connect(model="gpt-realtime") as connection,
        asyncio.timeout(10),
    ):
        assert (await connection.recv()).type == "session.created"
        for _ in range(3):
            await connection.response.create()
            text = ""
            while (event := await connection.recv()).type != "response.done":
                text += event.delta
            assert text == "Hi ünï 🎉"
    assert up.calls[0].target == "/v1/realtime?model=gpt-realtime"
    assert up.calls[0].header("authorization") == "Bearer sk-test"


async def test_the_reason_of_an_end_reaches_the_client(plain, upstream):
    running = await plain((await upstream(converse)).url)
    async with (
        running.client() as client,
        client.realtime.connect(model="gpt-realtime") as connection,
        asyncio.timeout(10),
    ):
        await connection.recv()
        await connection.session.update(session={"type": "realtime"})
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (3000, "invalid_request_error.no")


async def test_a_refused_session_is_the_upstreams_refusal(plain, upstream):
    error = b'{"error":{"message":"no","code":"invalid_api_key"}}'
    up = await upstream(lambda call: call.answer(error, status="401 Unauthorized"))
    running = await plain(up.url)
    async with running.client() as client:
        with pytest.raises(InvalidStatus) as caught:
            await client.realtime.connect(model="gpt-realtime").enter()
    assert (caught.value.response.status_code, caught.value.response.body) == (401, error)
