"""The very same request gets the same answer, and nothing else does."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from openai import APIError


async def say(running, question, key="sk-ann", **fields):
    """Ask; the answer with its headers."""
    messages = [{"role": "user", "content": question}]
    fields = {"model": "gpt-4o-mini", "messages": messages, **fields}
    async with running.client(api_key=key) as client:
        return await client.chat.completions.with_raw_response.create(**fields)


async def text(running, question, **fields):
    return (await say(running, question, **fields)).parse().choices[0].message.content


CACHING = "[[plugins]]\nuse = 'faq_cache'\nresponses.enabled = true\n"


@pytest.fixture
def caching(proxy, upstream):
    """Start an upstream with a script and a proxy that keeps what it says."""

    async def start(script=lambda call: call.chat("Hello."), options: str = "", more: str = ""):
        up = await upstream(script)
        return up, await proxy(up.url, f"{more}{CACHING}{options}")

    return start


async def streamed(running, question: str, **fields) -> str:
    async with running.client(api_key="sk-ann") as client:
        messages = [{"role": "user", "content": question}]
        fields = {"model": "gpt-4o-mini", "messages": messages, "stream": True, **fields}
        stream = await client.chat.completions.create(**fields)
        return "".join([c.delta.content or "" async for k in stream for c in k.choices])


async def test_the_same_request_gets_the_same_answer(caching):
    up, running = await caching()
    first, second = await say(running, "Hi"), await say(running, "Hi")
    assert "x-dragoman-cache" not in first.headers
    assert second.headers["x-dragoman-cache"] == "hit;tier=response"
    assert int(second.headers["age"]) >= 0
    assert second.parse().choices[0].message.content == "Hello."
    assert second.parse().usage.completion_tokens == 2
    assert len(up.calls) == 1


@pytest.mark.parametrize("stream_first", [False, True])
async def test_streams_and_others_answer_each_other(caching, stream_first):
    up, running = await caching()
    asks = [streamed, text] if stream_first else [text, streamed]
    assert [await ask(running, "Hi") for ask in asks] == ["Hello."] * 2
    assert len(up.calls) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1},
        {"model": "gpt-4o"},
        {"user": "x"},
        {"extra_body": {"nobody_knows": 1}},
        {"messages": [{"role": "system", "content": "Hm."}, {"role": "user", "content": "Hi"}]},
        {"extra_headers": {"Cache-Control": "no-cache"}},
        {"n": 2},
    ],
)
async def test_another_request_gets_its_own(caching, fields):
    up, running = await caching()
    await say(running, "Hi")
    await say(running, "Hi", **fields)
    assert len(up.calls) == 2


async def test_callers_share_no_answers(caching):
    up, running = await caching()
    await say(running, "Hi", "sk-ann")
    await say(running, "Hi", "sk-bob")
    assert len(up.calls) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"finish_reason": "length", "message": {"role": "assistant", "content": "The"}},
        {"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}},
        {"finish_reason": "stop", "message": {"role": "assistant", "content": None}},
        {
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "x", "annotations": [{"type": "a"}]},
        },
        {
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "x", "reasoning_content": "hm"},
        },
    ],
)
async def test_what_is_not_a_complete_text_is_not_kept(caching, body):
    async def script(call):
        whole = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, **body}]}
        await call.answer(msgspec.json.encode(whole))

    up, running = await caching(script)
    await say(running, "Hi")
    await say(running, "Hi")
    assert len(up.calls) == 2


async def test_errors_and_broken_streams_are_not_kept(caching):
    async def script(call):
        if call.json.get("stream"):
            await call.start_stream()
            await call.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"The"}}]}\n\n')
            call.writer.close()
        else:
            await call.answer(b'{"error":{"message":"no"}}', status="400 Bad Request")

    up, running = await caching(script)
    for _ in range(2):
        with pytest.raises(APIError):
            await streamed(running, "Hi")
        with pytest.raises(APIError):
            await text(running, "Hi")
    assert len(up.calls) >= 4


@pytest.mark.parametrize("stream", [False, True])
async def test_of_equal_requests_one_is_sent(caching, stream):
    async def script(call):
        await asyncio.sleep(0.3)
        await call.chat("Hello.")

    up, running = await caching(script)
    ask = streamed if stream else text
    answers = await asyncio.gather(*(ask(running, "Hi") for _ in range(8)))
    assert answers == ["Hello."] * 8
    assert len(up.calls) == 1


async def test_who_waits_for_one_that_fails_asks_again(caching):
    calls = []

    async def script(call):
        calls.append(call)
        await asyncio.sleep(0.2)
        if len(calls) == 1:
            await call.answer(b'{"error":{"message":"no"}}', status="400 Bad Request")
        else:
            await call.chat("Hello.")

    _, running = await caching(script)
    asked = [text(running, "Hi") for _ in range(5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count("Hello.") == 4
    assert len(calls) == 2


async def test_nobody_waits_for_ever(caching):
    async def script(call):
        await asyncio.sleep(1.5 if len(up.calls) == 1 else 0)
        await call.chat("Hello.")

    up, running = await caching(script, "responses.wait = '100 ms'")
    asked = [text(running, "Hi") for _ in range(2)]
    assert await asyncio.gather(*asked) == ["Hello."] * 2
    assert len(up.calls) == 2


async def test_a_kept_answer_ends_with_its_time(caching):
    up, running = await caching(options="responses.ttl = '200 ms'")
    await say(running, "Hi")
    await asyncio.sleep(0.4)
    await say(running, "Hi")
    assert len(up.calls) == 2
