"""What a plugin is told of what the client was shown: as it went out, whatever stood around it."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import Client, ask_chat, chat_body, request
from tests.support.upstream import chunks

LOOK = """
def look(shown):
    if shown is None:
        told.append("all")
    elif isinstance(shown, FullResponse):
        told.append(shown.body["choices"][0]["message"]["content"])
    else:
        told.extend(shown.texts().values())
request.on_shown(look)
return await call_next(request)
"""
SHOUT = "return (await call_next(request)).map_text(str.upper)"
LOUD = {"around": (SHOUT, LOOK), "inside": (LOOK, SHOUT), "alone": (LOOK,)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("order", LOUD)
async def test_it_is_what_left_the_proxy(proxy, upstream, tmp_path, order, stream):
    codes = LOUD[order]
    tables = "".join(plugin(tmp_path, code, name=f"p{n}") for n, code in enumerate(codes))
    running = await proxy((await upstream()).url, tables)
    answer = await ask_chat(running, stream=stream)
    said = "Hello." if order == "alone" else "HELLO."
    assert said.encode() in answer.body
    assert told == [said, "all"]


async def test_an_answer_that_breaks_is_told_as_far_as_it_came(proxy, upstream, tmp_path):
    async def script(call):
        await call.start_stream()
        for event in chunks("one two three", call.json)[:3]:
            await call.chunk(event)
        call.reset()

    running = await proxy((await upstream(script)).url, plugin(tmp_path, LOOK))
    answer = await ask_chat(running, stream=True)
    assert answer.event_code == "upstream_truncated"
    assert told == ["one", " two"]


async def test_comments_and_errors_are_not_told(proxy, upstream, tmp_path):
    async def script(call):
        if call.json.get("stream"):
            await call.start_stream()
            await call.chunk(b": ping\n\n" + b"".join(chunks("one", call.json)))
            await call.end_chunks()
        else:
            call.reset()

    running = await proxy((await upstream(script)).url, plugin(tmp_path, LOOK))
    assert (await ask_chat(running)).status == 502
    assert told == []
    assert b": ping" in (await ask_chat(running, stream=True)).body
    assert told == ["one", "all"]


async def test_a_piece_is_with_the_client_before_it_is_told(proxy, upstream, tmp_path):
    go = asyncio.Event()

    async def script(call):
        await call.start_stream()
        for event in chunks("one", call.json):
            await call.chunk(event)
            await go.wait()
        await call.end_chunks()

    running = await proxy((await upstream(script)).url, plugin(tmp_path, LOOK))
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        assert (await client.head()).status == 200
        assert told == []
        go.set()
        async with asyncio.timeout(5):
            while b"[DONE]" not in await client.reader.read(65_536):
                pass
        while told != ["one", "all"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_fails_is_told_no_more_and_the_client_does_not_notice(
    proxy, upstream, tmp_path, caplog, stream
):
    code = "def look(shown):\n    told.append(1)\n    raise ValueError(repr(shown))\n"
    code += "request.on_shown(look)\nreturn await call_next(request)\n"
    running = await proxy((await upstream()).url, plugin(tmp_path, code))
    answer = await ask_chat(running, stream=stream)
    assert b"Hello." in answer.body
    if not stream:
        assert json.loads(answer.body)
    assert told == [1]
    assert "on_shown of" in caplog.text
