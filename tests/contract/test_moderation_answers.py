"""Answers through a real proxy: nothing is shown that no check has passed."""

from __future__ import annotations

import asyncio

import msgspec
import openai
import pytest

from tests.support.moderation import (
    ANSWER,
    BAD,
    LISTS,
    ask,
    broken,
    by_api,
    hanging,
    judge,
    says,
    stream_of,
    streamed,
)
from tests.support.upstream import chunks, completion


async def test_an_answer_in_one_piece_is_shown_or_ended(moderating, upstream):
    api = await upstream(judge())
    _, running = await moderating(by_api(api.url, 'output.replacement = "[removed]"'), says(ANSWER))
    choice = (await ask(running)).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("[removed]", "content_filter")
    (turn,) = await running.turns()
    assert turn["finish_reason"] == "content_filter"
    _, running = await moderating(by_api(api.url), says("All is well."))
    assert (await ask(running)).choices[0].message.content == "All is well."


@pytest.mark.parametrize("hold", ["window", "answer"])
async def test_a_stream_ends_where_a_window_is_flagged(moderating, upstream, hold):
    api = await upstream(judge(delay=0.02))
    options = f'output.interval = "20 ms"\noutput.hold = "{hold}"'
    _, running = await moderating(by_api(api.url, options), says(ANSWER, 0.01))
    text, reason = await streamed(running)
    assert reason == "content_filter"
    assert BAD not in text
    assert ANSWER.startswith(text)
    assert bool(text) == (hold == "window")


@pytest.mark.parametrize("confirm", [0, 1_000])
async def test_a_flag_of_a_window_is_confirmed_with_more_of_the_answer(
    moderating, upstream, confirm
):
    async def script(call):
        joking = any("joking" in text for text in call.json["input"])
        await judge(bad="none" if joking else BAD)(call)

    api = await upstream(script)
    options = f'output.context = 0\noutput.interval = "0 s"\noutput.confirm = {confirm}'
    text = "I am only joking here, my dear friends. What a rather nasty day it is."
    _, running = await moderating(by_api(api.url, options), says(text, 0.005))
    shown, reason = await streamed(running)
    assert reason == ("stop" if confirm else "content_filter")
    assert (shown == text) == bool(confirm)


async def test_every_choice_ends_when_one_is_blocked(moderating):
    async def script(call):
        await call.start_stream()
        for index, text in ((0, "All is well."), (1, "You scoundrel, you.")):
            for event in chunks(text, call.json)[:-3]:
                await call.chunk(event.replace(b'"index":0', b'"index":%d' % index))
        await call.wait_closed()

    _, running = await moderating(LISTS, script)
    ends = {}
    async with stream_of(running, n=2) as stream:
        async for chunk in stream:
            for choice in chunk.choices:
                assert "scoundrel" not in (choice.delta.content or "")
                if choice.finish_reason:
                    ends[choice.index] = choice.finish_reason
    assert ends == {0: "content_filter", 1: "content_filter"}


async def test_a_blocked_stream_raises_only_the_clients_own_error(moderating):
    _, running = await moderating(LISTS, says("You are a scoundrel, I dare say. " * 3))
    async with running.client() as client:
        messages = [{"role": "user", "content": "Hello"}]
        with pytest.raises(openai.ContentFilterFinishReasonError):
            await client.chat.completions.parse(
                model="gpt-4o-mini", messages=messages, response_format={"type": "json_object"}
            )


async def test_the_usage_comes_last_if_it_was_asked_for(moderating):
    _, running = await moderating(LISTS, says("You are a scoundrel, I dare say. " * 9))
    options = {"stream_options": {"include_usage": True}}
    async with stream_of(running, **options) as stream:
        *_, end, usage = [chunk async for chunk in stream]
    assert end.choices[0].finish_reason == "content_filter"
    assert usage.choices == []
    assert usage.usage.completion_tokens > 0


async def test_a_clean_stream_keeps_its_bytes(moderating):
    text = "It is a fine day, and nobody is rude. " * 20
    up, running = await moderating(LISTS, says(text))
    async with running.client() as client:
        create = client.chat.completions.with_streaming_response.create
        messages = [{"role": "user", "content": "Hello"}]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with create(model="m", messages=messages, **options) as response:
            seen = await response.read()
    assert seen == b"".join(chunks(text, up.calls[0].json))


async def test_what_is_masked_in_a_stream_is_as_long_as_it_was(moderating):
    _, running = await moderating(LISTS, says("Call 1234-5678 today, or tomorrow."))
    assert await streamed(running) == ("Call ********* today, or tomorrow.", "stop")
    whole = (await ask(running)).choices[0].message.content
    assert whole == "Call ********* today, or tomorrow."


async def test_the_tokens_of_what_is_masked_are_not_told(moderating):
    async def script(call):
        body = msgspec.json.decode(completion("Call 1234-5678."))
        body["choices"][0]["logprobs"] = {"content": [{"token": "1234-5678", "logprob": 0.0}]}
        await call.answer(msgspec.json.encode(body))

    _, running = await moderating(LISTS, script)
    answer = await ask(running)
    assert answer.choices[0].message.content == "Call *********."
    assert "1234" not in answer.model_dump_json()


@pytest.mark.parametrize("script", [broken, hanging])
async def test_an_output_check_that_fails_follows_on_error(moderating, upstream, script):
    api = await upstream(script)
    limits = 'timeout = "200 ms"\nstages = ["output"]'
    _, running = await moderating(by_api(api.url, "", limits), says(ANSWER))
    for stream in (False, True):
        with pytest.raises(openai.APIError) as failed:
            await (streamed(running) if stream else ask(running))
        assert failed.value.code == "moderation_unavailable"
    options = 'output.on_error = "open"'
    _, running = await moderating(by_api(api.url, options, limits), says(ANSWER))
    assert await streamed(running) == (ANSWER, "stop")


async def test_a_stream_that_breaks_shows_what_passed_and_then_the_error(moderating):
    async def script(call):
        await call.start_stream()
        for event in chunks("A first sentence. And a second", call.json)[:-2]:
            await call.chunk(event)
        call.writer.close()

    _, running = await moderating(LISTS, script)
    seen = []
    with pytest.raises(openai.APIError) as broke:
        await streamed(running, seen=seen.append)
    assert seen[-1] == "A first sentence. And a second"
    assert broke.value.code == "upstream_truncated"


async def test_a_client_that_leaves_ends_the_upstreams_call(moderating):
    left = asyncio.Event()

    async def script(call):
        await call.start_stream()
        for event in chunks("A first sentence that is long enough. And more", call.json)[:-2]:
            await call.chunk(event)
        await call.wait_closed()
        left.set()

    _, running = await moderating(LISTS, script)
    async with stream_of(running) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    await asyncio.wait_for(left.wait(), 10)


async def test_a_silent_upstream_does_not_hold_back_what_came_before(moderating):
    shown = asyncio.Event()

    async def script(call):
        await call.start_stream()
        for event in chunks("Let me see", call.json)[:-2]:
            await call.chunk(event)
        await asyncio.wait_for(shown.wait(), 20)
        call.writer.close()

    def look(text):
        if text == "Let me see":
            shown.set()

    _, running = await moderating(LISTS, script)
    with pytest.raises(openai.APIError):
        await streamed(running, seen=look)
    assert shown.is_set()


async def test_a_blocked_stream_stops_the_upstream(moderating):
    closed = asyncio.Event()

    async def script(call):
        await call.start_stream()
        for event in chunks("You scoundrel, you. " * 5, call.json)[:-2]:
            await call.chunk(event)
        await call.wait_closed()
        closed.set()

    _, running = await moderating(LISTS, script)
    assert await streamed(running) == ("", "content_filter")
    await asyncio.wait_for(closed.wait(), 10)
