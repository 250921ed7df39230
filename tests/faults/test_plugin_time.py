"""A plugin's clock counts its own time only; who blocks the loop is named; a shadow is silent."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import ask_chat
from tests.support.upstream import chunks

UNCOUNTED = "telemetry.estimate_usage = false"
OPEN, CLOSED = 'on_error = "open"', 'on_error = "closed"'
QUICK = 'timeout = "300 ms"'
SHADOW = 'mode = "shadow"'


async def slow(call):
    await asyncio.sleep(0.6)
    await call.chat()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_clock_stands_still_while_the_upstream_works(proxy, upstream, tmp_path, stream):
    toml = plugin(tmp_path, "return await call_next(request)", options=f"{CLOSED}\n{QUICK}")
    running = await proxy((await upstream(slow)).url, toml)
    assert (await ask_chat(running, stream=stream)).status == 200
    assert (await running.turns())[0]["plugins"][0]["ms"] < 300


@pytest.mark.parametrize("stream", [False, True])
async def test_the_clock_goes_on_with_what_was_left(proxy, upstream, tmp_path, stream):
    code = """
    await asyncio.sleep(0.2)
    response = await call_next(request)
    await asyncio.sleep(0.2)
    return response
    """
    toml = plugin(tmp_path, code, options=f"{CLOSED}\n{QUICK}")
    running = await proxy((await upstream(slow)).url, toml)
    assert (await ask_chat(running, stream=stream)).code == "plugin_unavailable"


async def test_a_stream_may_be_slow_without_its_plugin_being_late(proxy, upstream, tmp_path):
    events = chunks("one two three", {})

    async def drip(call):
        await call.start_stream()
        for event in events:
            await asyncio.sleep(0.15)
            await call.chunk(event)
        await call.end_chunks()

    code = "return (await call_next(request)).map_text(str.upper)"
    toml = plugin(tmp_path, code, options=f'{CLOSED}\ntimeout = "100 ms"')
    running = await proxy((await upstream(drip)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    assert answer.events[-1] == b"[DONE]"
    assert b"THREE" in answer.body


async def test_a_plugin_without_a_limit_may_take_its_time(proxy, upstream, tmp_path):
    code = """
    await asyncio.sleep(0.4)
    async def transform(chunks):
        async for chunk in chunks:
            await asyncio.sleep(0.01)
            yield chunk
    return (await call_next(request)).map_chunks(transform)
    """
    running = await proxy((await upstream()).url, plugin(tmp_path, code, options="timeout = 0"))
    assert (await ask_chat(running, stream=True)).events[-1] == b"[DONE]"


BUSY = "end = time.perf_counter() + 0.6\nwhile time.perf_counter() < end: pass\n"
BLOCKING = {
    "handle": f"{BUSY}return await call_next(request)",
    "transform": f"""
def f(text):
    {BUSY.strip().replace(chr(10), chr(10) + "    ")}
    return text
return (await call_next(request)).map_text(f)
""",
}


@pytest.mark.parametrize("code", BLOCKING.values(), ids=BLOCKING)
async def test_a_plugin_that_blocks_the_loop_is_named(proxy, upstream, tmp_path, caplog, code):
    toml = plugin(tmp_path, code, name="greedy", options='timeout = "10 s"')
    running = await proxy((await upstream()).url, toml)
    assert (await ask_chat(running, stream=True)).status == 200
    blocked = [r.getMessage() for r in caplog.records if r.name == "dragoman.loop"]
    assert "the event loop is blocked by the plugin greedy" in blocked


async def test_a_plugin_that_waits_is_not_said_to_block(proxy, upstream, tmp_path, caplog):
    code = "await asyncio.sleep(0.5)\nreturn await call_next(request)"
    running = await proxy((await upstream()).url, plugin(tmp_path, code, name="patient"))
    assert (await ask_chat(running)).status == 200
    assert "patient" not in caplog.text


SHADOWS = {
    "changes the request": "return await call_next(request.replace(model='other', seed=7))",
    "changes the answer": "return (await call_next(request)).map_text(str.upper)",
    "answers": "return answer(request, 'We open at nine.')",
    "refuses": "raise ContentRejected('no')",
    "refuses afterwards": "await call_next(request)\nraise ContentRejected('no')",
    "raises": "raise ValueError",
    "raises afterwards": "await call_next(request)\nraise ValueError",
    "panics": "class Panic(BaseException): pass\nraise Panic",
    "leaves the program": "raise SystemExit",
    "is cancelled by itself": "raise asyncio.CancelledError",
    "returns nothing": "return None",
    "hangs": "await asyncio.sleep(60)",
    "hangs afterwards": "await call_next(request)\nawait asyncio.sleep(60)",
    "is slow": "await asyncio.sleep(0.25)\nreturn await call_next(request)",
    "closes the answer": "response = await call_next(request)\nawait response.close()\nreturn response",
    "reads the stream": "response = await call_next(request)\nif request.stream:\n"
    "    [chunk async for chunk in response.chunks]\nreturn response",
    "spoils the headers": "response = await call_next(request)\nresponse.headers.clear()\n"
    "response.headers['X-Spoilt'] = 'yes'\nreturn response",
    "holds and rejects": """
async def check(text):
    raise ContentRejected('no')
response = await call_next(request)
return response.hold(check) if request.stream else response""",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", SHADOWS.values(), ids=SHADOWS)
async def test_a_shadow_changes_nothing_and_delays_nothing(proxy, upstream, tmp_path, code, stream):
    up = await upstream()
    plain = await proxy(up.url, UNCOUNTED)
    expected = await ask_chat(plain, stream=stream)
    expected_turn = (await plain.turns())[0]
    toml = plugin(tmp_path, code, options=f"{SHADOW}\n{QUICK}")
    running = await proxy(up.url, f"{UNCOUNTED}\n{toml}")
    start = time.perf_counter()
    answer = await ask_chat(running, stream=stream)
    assert time.perf_counter() - start < 0.25
    assert (answer.status, answer.body) == (200, expected.body)
    assert answer.header("X-Spoilt") is None
    assert up.calls[0].body == up.calls[1].body
    assert len(up.calls) == 2
    turn = (await running.turns())[0]
    for field in ("source", "termination", "finish_reason", "completion_tokens", "saved_tokens"):
        assert turn[field] == expected_turn[field]
    assert [p["name"] for p in turn["plugins"]] == ["unlucky"]


async def test_what_a_shadow_would_have_done_is_told(proxy, upstream, tmp_path):
    names = {"changes the request": "modify", "answers": "respond", "refuses": "reject"}
    names |= {"raises": "error", "returns nothing": "error"}
    toml = "".join(
        plugin(tmp_path, SHADOWS[name], name=name.replace(" ", "_"), options=SHADOW)
        for name in names
    )
    running = await proxy((await upstream()).url, toml)
    await ask_chat(running)
    turn = (await running.turns())[0]
    outcomes = {p["name"].replace("_", " "): p["outcome"] for p in turn["plugins"]}
    assert outcomes == names


async def test_a_shadow_behind_a_failed_call_ends_too(proxy, upstream, tmp_path):
    async def reset(call):
        call.reset()

    code = """
    try:
        return await call_next(request)
    except APIError as error:
        told.append(error.code)
        raise
    """
    running = await proxy((await upstream(reset)).url, plugin(tmp_path, code, options=SHADOW))
    assert (await ask_chat(running)).code == "upstream_unreachable"
    await running.turns()
    assert told == ["upstream_unreachable"]
