"""A plugin that fails inside a stream: `open` loses no chunk, `closed` ends with an error event."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import Client, ask_chat, chat_body, request
from tests.support.upstream import chunks

UNCOUNTED = "telemetry.estimate_usage = false"
OPEN, CLOSED = 'on_error = "open"', 'on_error = "closed"'
QUICK = 'timeout = "200 ms"'
TEXT = "one two three four five six"
EVENTS = chunks(TEXT, {})


def transform(code: str) -> str:
    """A handle() whose transform has this body; `number` counts the chunks from 1."""
    lines = "\n".join(f"        {line}" for line in code.strip().splitlines())
    return f"""
class Panic(BaseException): pass
async def transform(chunks):
    number = 0
    async for chunk in chunks:
        number += 1
{lines}
return (await call_next(request)).map_chunks(transform)
"""


async def speak(call):
    await call.chat(TEXT)


def contents(answer) -> str:
    """The text of a stream, as a client puts it together."""
    deltas = (msgspec.json.decode(e)["choices"][0]["delta"] for e in answer.events[:-1])
    return "".join(delta.get("content") or "" for delta in deltas)


FAILURES = {
    "before the chunk": "if number == 4: raise ValueError\nyield chunk",
    "behind the chunk": "yield chunk\nif number == 4: raise ValueError",
    "at the first chunk": "raise ValueError\nyield chunk",
    "at the last chunk": "if number == 8: raise ValueError\nyield chunk",
    "panics": "if number == 4: raise Panic\nyield chunk",
    "leaves the program": "if number == 4: raise SystemExit\nyield chunk",
    "is cancelled by itself": "if number == 4: raise asyncio.CancelledError\nyield chunk",
    "hangs": "if number == 4: await asyncio.sleep(60)\nyield chunk",
    "hangs behind a chunk": "yield chunk\nif number == 4: await asyncio.sleep(60)",
    "yields nothing": "yield None if number == 4 else chunk",
    "yields a string": "yield 'data' if number == 4 else chunk",
    "yields bytes": "yield chunk.raw if number == 4 else chunk",
    "stops the iteration": "if number == 4: next(iter(()))\nyield chunk",
}


@pytest.mark.parametrize("code", FAILURES.values(), ids=FAILURES)
async def test_an_open_plugin_that_fails_in_a_stream_loses_no_chunk(
    proxy, upstream, tmp_path, code
):
    toml = plugin(tmp_path, transform(code), options=f"{OPEN}\n{QUICK}")
    running = await proxy((await upstream(speak)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    assert answer.body == b"".join(EVENTS)
    turn = (await running.turns())[0]
    assert turn["termination"] == "completed"
    assert [p["outcome"] for p in turn["plugins"] if p["phase"] == "stream"] == ["error"]


@pytest.mark.parametrize("code", FAILURES.values(), ids=FAILURES)
async def test_a_closed_plugin_that_fails_in_a_stream_ends_it_with_an_error_event(
    proxy, upstream, tmp_path, code
):
    toml = plugin(tmp_path, transform(code), options=f"{CLOSED}\n{QUICK}")
    running = await proxy((await upstream(speak)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    assert answer.event_code == "plugin_unavailable"
    assert b"[DONE]" not in answer.body
    assert b"HTTP/1.1" not in answer.body
    assert (await running.turns())[0]["termination"] == "plugin_unavailable"


WRONG_RESULTS = {
    "no iterator": "transform = lambda chunks: None",
    "a list": "transform = lambda chunks: [1, 2]",
    "fails at once": "def transform(chunks): raise ValueError",
}


@pytest.mark.parametrize("code", WRONG_RESULTS.values(), ids=WRONG_RESULTS)
@pytest.mark.parametrize("on_error", [OPEN, CLOSED])
async def test_a_transform_that_is_none_counts_as_a_failure(
    proxy, upstream, tmp_path, code, on_error
):
    code += "\nreturn (await call_next(request)).map_chunks(transform)"
    toml = plugin(tmp_path, code, options=on_error)
    running = await proxy((await upstream(speak)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    if on_error == OPEN:
        assert answer.body == b"".join(EVENTS)
    else:
        assert answer.event_code == "plugin_unavailable"


async def test_an_open_plugin_that_fails_repeats_nothing_of_what_it_let_through(
    proxy, upstream, tmp_path
):
    """It leaves out the second word, and fails at the fifth: the third is not said again."""
    code = transform("if number == 6: raise ValueError\nif number != 3: yield chunk")
    running = await proxy((await upstream(speak)).url, plugin(tmp_path, code, options=OPEN))
    answer = await ask_chat(running, stream=True)
    assert contents(answer) == "one three four five six"


async def test_an_open_plugin_that_holds_chunks_back_and_fails_gives_them_up(
    proxy, upstream, tmp_path
):
    code = """
    async def transform(chunks):
        held = []
        async for chunk in chunks:
            held.append(chunk)
            if len(held) == 5:
                raise ValueError
        for chunk in held:
            yield chunk
    return (await call_next(request)).map_chunks(transform)
    """
    running = await proxy((await upstream(speak)).url, plugin(tmp_path, code, options=OPEN))
    assert (await ask_chat(running, stream=True)).body == b"".join(EVENTS)


@pytest.mark.parametrize("on_error", [OPEN, CLOSED])
async def test_a_check_that_fails_while_text_is_held_follows_on_error(
    proxy, upstream, tmp_path, on_error
):
    """The moderation service is down: `closed` shows nothing that was not checked."""
    code = """
    async def check(text):
        if "four" in text: raise ConnectionError
    return (await call_next(request)).hold(check, every=8, overlap=4)
    """
    toml = plugin(tmp_path, code, options=on_error)
    running = await proxy((await upstream(speak)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    if on_error == OPEN:
        assert answer.body == b"".join(EVENTS)
    else:
        assert answer.event_code == "plugin_unavailable"
        assert b"four" not in answer.body


@pytest.mark.parametrize("on_error", [OPEN, CLOSED])
async def test_a_plugin_that_fails_because_its_source_broke_does_not_make_it_complete(
    proxy, upstream, tmp_path, on_error
):
    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS[0])
        call.writer.close()

    code = """
    async def transform(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as error:
            raise ValueError("what now?") from error
    return (await call_next(request)).map_chunks(transform)
    """
    toml = plugin(tmp_path, code, options=on_error)
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=True)
    assert answer.event_code == ("upstream_truncated" if on_error == OPEN else "plugin_unavailable")


async def test_a_plugin_may_read_ahead_in_a_task_of_its_own(proxy, upstream, tmp_path):
    code = """
    async def transform(chunks):
        queue = asyncio.Queue()
        async def read():
            async for chunk in chunks:
                queue.put_nowait(chunk)
            queue.put_nowait(None)
        reading = asyncio.get_running_loop().create_task(read())
        while (chunk := await queue.get()) is not None:
            yield chunk
        await reading
    return (await call_next(request)).map_chunks(transform)
    """
    running = await proxy((await upstream(speak)).url, plugin(tmp_path, code))
    assert (await ask_chat(running, stream=True)).body == b"".join(EVENTS)


async def test_a_break_of_the_upstream_is_not_blamed_on_a_plugin(proxy, upstream, tmp_path):
    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS[0])
        call.writer.close()

    toml = plugin(tmp_path, transform("yield chunk"), options=OPEN)
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    assert (await ask_chat(running, stream=True)).event_code == "upstream_truncated"
    assert "error" not in [p["outcome"] for p in (await running.turns())[0]["plugins"]]


async def test_a_plugin_that_swallows_a_break_does_not_make_it_complete(proxy, upstream, tmp_path):
    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS[0])
        call.writer.close()

    code = """
    async def transform(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        except Exception:
            told.append("swallowed")
    return (await call_next(request)).map_chunks(transform)
    """
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{plugin(tmp_path, code)}")
    answer = await ask_chat(running, stream=True)
    assert told == ["swallowed"]
    assert answer.event_code == "upstream_truncated"


async def test_a_stream_that_a_plugin_ends_early_closes_the_upstream_call(
    proxy, upstream, tmp_path
):
    closed = asyncio.Event()

    async def script(call):
        await call.start_stream()
        for event in EVENTS[:3]:
            await call.chunk(event)
        await call.wait_closed()
        closed.set()

    toml = plugin(tmp_path, transform("yield chunk\nif number == 3: break"))
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    await ask_chat(running, stream=True)
    async with asyncio.timeout(2):
        await closed.wait()


async def test_every_transform_is_closed_when_the_client_leaves(proxy, upstream, tmp_path):
    code = """
    async def transform(chunks):
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            told.append(NAME)
    return (await call_next(request)).map_chunks(transform)
    """
    names = ("outer", "middle", "inner")
    toml = "".join(plugin(tmp_path, code.replace("NAME", repr(n)), name=n) for n in names)
    reached, closed = asyncio.Event(), asyncio.Event()

    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS[0])
        reached.set()
        await call.wait_closed()
        closed.set()

    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(stream=True)))
        await reached.wait()
        await client.head()
        client.leave()
        await closed.wait()
    await running.turns()
    assert sorted(map(str, told)) == ["inner", "middle", "outer"]
