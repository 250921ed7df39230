"""Moderation through a real proxy: what the client sees, what the upstream and the API are sent."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import msgspec
import openai
import pytest

from tests.support.raw import metric
from tests.support.upstream import chunks, completion

LISTS = """
[[plugins]]
use = "moderation"

[[plugins.lists]]
name = "insults"
words = ["scoundrel", "坏蛋"]

[[plugins.lists]]
name = "rivals"
words = ["Acme Corp"]
action = "flag"

[[plugins.lists]]
name = "numbers"
patterns = ['\\b\\d{4}-\\d{4}\\b']
action = "mask"
"""
BAD = "nasty"


def judge(delay: float = 0, bad: str = BAD):
    """The script of a Moderation API that flags texts with a word in them."""

    async def script(call):
        assert call.target == "/v1/moderations"
        if delay:
            await asyncio.sleep(delay)
        results = [
            {
                "flagged": bad in text,
                "categories": {"harassment": bad in text, "violence": False},
                "category_scores": {"harassment": 0.9 if bad in text else 0.1, "violence": 0.2},
            }
            for text in call.json["input"]
        ]
        body = {"id": "modr-1", "model": call.json["model"], "results": results}
        await call.answer(msgspec.json.encode(body))

    return script


def by_api(url: str, more: str = "", api: str = "") -> str:
    return f"""
[[plugins]]
use = "moderation"
{more}
[plugins.api]
base_url = "{url}"
api_key = "sk-moderation"
{api}
"""


@pytest.fixture
def moderating(proxy, upstream):
    """Start an upstream and a proxy that moderates with these tables."""

    async def start(tables: str = LISTS, script=lambda call: call.chat("Fine, thank you.")):
        up = await upstream(script)
        return up, await proxy(up.url, tables)

    return start


async def ask(running, messages="Hello", **options):
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    async with running.client() as client:
        return await client.chat.completions.create(
            model="gpt-4o-mini", messages=messages, **options
        )


@asynccontextmanager
async def stream_of(running, messages="Hello", **options):
    async with running.client() as client:
        yield await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": messages}],
            stream=True,
            **options,
        )


async def streamed(running, messages="Hello", seen=None, **options):
    """The text of a streamed answer, and how it ended; `seen` is told each piece of text."""
    text, reason = "", None
    async with stream_of(running, messages, **options) as stream:
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
                if seen is not None:
                    seen(text)
    return text, reason


# ---- input by lists


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "You scoundrel!",
        "You SCOUNDREL",
        "you sc\u200bound\u00adrel",
        "you ｓｃｏｕｎｄｒｅｌ",
        "you 5c0undr3l",
        "you sc0undrel!",
        "你这个坏\u200b蛋。",
        "you s\u0336c\u0336oundrel",
    ],
)
async def test_a_word_is_found_however_it_is_written(moderating, text, stream):
    up, running = await moderating()
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, text, stream=stream)
    error = refused.value
    assert (error.status_code, error.code, error.param) == (
        400,
        "content_policy_violation",
        "messages",
    )
    assert error.type == "invalid_request_error"
    assert error.response.headers["x-dragoman-moderation"] == "input"
    assert "insults" not in error.response.text
    assert up.calls == []


@pytest.mark.parametrize("text", ["scoundrels?", "5 0 1", "an Acme corps", "坏 蛋", "4711"])
async def test_what_only_looks_like_a_word_passes(moderating, text):
    up, running = await moderating()
    assert (await ask(running, text)).choices[0].message.content == "Fine, thank you."
    assert up.calls[0].json["messages"][0]["content"] == text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_request_may_be_answered_as_a_completion(moderating, stream):
    options = 'input.answer = "completion"\ninput.message = "No."\nexpose_categories = true\n'
    up, running = await moderating(LISTS.replace("\n\n", f"\n{options}\n", 1))
    if stream:
        answer = await streamed(running, "scoundrel")
    else:
        choice = (await ask(running, "scoundrel")).choices[0]
        answer = choice.message.content, choice.finish_reason
    assert answer == ("No. (insults)", "content_filter")
    assert up.calls == []


async def test_the_code_may_be_azures(moderating):
    _, running = await moderating(LISTS.replace("\n\n", '\ninput.code = "content_filter"\n\n', 1))
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, "scoundrel")
    assert refused.value.code == "content_filter"


async def test_only_the_new_turn_is_checked_tools_included(moderating):
    _, running = await moderating()
    old = {"role": "user", "content": "scoundrel"}
    reply = {"role": "assistant", "content": "Pardon?"}
    fine = {"role": "user", "content": "Sorry."}
    assert await ask(running, [old, reply, fine])
    tool = {"role": "tool", "tool_call_id": "c1", "content": "scoundrel"}
    for turn in ([old, reply, tool, fine], [old, fine], [old, reply], [old, reply, reply]):
        with pytest.raises(openai.BadRequestError):
            await ask(running, turn)


async def test_flags_are_counted_and_masks_are_sent(moderating):
    up, running = await moderating()
    assert await ask(running, "Does Acme Corp have 1234-5678?")
    assert up.calls[0].json["messages"][0]["content"] == "Does Acme Corp have *********?"
    counted = 'dragoman_moderation_verdicts_total{action="mask",stage="input"}'
    assert await metric(running, counted) == 1
    (turn,) = await running.turns()
    assert "moderation" in str(turn)


async def test_a_pattern_that_takes_too_long_refuses_or_lets_pass(moderating):
    table = """
    [[plugins]]
    use = "moderation"
    {}
    [[plugins.lists]]
    name = "bomb"
    patterns = ['(?:(?:x+)+)+\\d(?:y|yy)*$']
    stages = ["input"]
    """
    bomb = "x" * 5_000 + "1" + "y" * 60 + "!"
    _, running = await moderating(table.format(""))
    start = time.perf_counter()
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running, bomb)
    assert time.perf_counter() - start < 2
    assert failed.value.code == "moderation_unavailable"
    _, running = await moderating(table.format('input.on_error = "open"'))
    assert await ask(running, bomb)


# ---- input by the API


@pytest.mark.parametrize("order", ["before", "parallel"])
async def test_the_api_is_asked_once_about_what_it_has_judged(moderating, upstream, order):
    api = await upstream(judge())
    tables = by_api(api.url, f'input.order = "{order}"', 'stages = ["input"]')
    _, running = await moderating(tables)
    for _ in range(3):
        assert await ask(running, "Hello there")
        with pytest.raises(openai.BadRequestError):
            await ask(running, "How nasty")
    assert [call.json["input"] for call in api.calls] == [["Hello there"], ["How nasty"]]
    assert api.calls[0].header("authorization") == "Bearer sk-moderation"
    counted = 'dragoman_moderation_checks_total{outcome="known"}'
    assert await metric(running, counted) == 4


async def test_beside_the_call_nothing_is_shown_and_the_call_is_cancelled(moderating, upstream):
    closed = []

    async def script(call):
        start = time.perf_counter()
        await call.start_stream()
        await call.chunk(chunks("Secret", call.json)[1])
        await call.wait_closed()
        closed.append(time.perf_counter() - start)

    api = await upstream(judge(delay=0.2))
    up, running = await moderating(by_api(api.url), script)
    with pytest.raises(openai.BadRequestError):
        await streamed(running, "How nasty")
    await asyncio.sleep(0.05)
    assert len(up.calls) == 1
    assert 0.1 < closed[0] < 0.4


async def test_before_the_call_nothing_reaches_the_upstream(moderating, upstream):
    api = await upstream(judge())
    up, running = await moderating(by_api(api.url, 'input.order = "before"'))
    with pytest.raises(openai.BadRequestError):
        await ask(running, "How nasty")
    assert up.calls == []


async def broken(call):
    await call.answer(b"{}", status="500 Oops")


async def hanging(call):
    await call.wait_closed()


async def limited(call):
    await call.answer(b"{}", status="429 Slow down", headers=(("Retry-After", "30"),))


@pytest.mark.parametrize("script", [broken, hanging, limited])
@pytest.mark.parametrize("order", ["before", "parallel"])
async def test_an_api_that_fails_follows_on_error(moderating, upstream, script, order):
    api = await upstream(script)
    options, limits = f'input.order = "{order}"', 'timeout = "200 ms"\nstages = ["input"]'
    _, running = await moderating(by_api(api.url, options, limits))
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running)
    assert failed.value.code == "moderation_unavailable"
    _, running = await moderating(by_api(api.url, options + '\ninput.on_error = "open"', limits))
    assert await ask(running)
    assert await metric(running, 'dragoman_moderation_verdicts_total{action="error",stage="input"}')


async def test_a_check_that_is_limited_for_a_moment_is_asked_again(moderating, upstream):
    async def script(call):
        if len(api.calls) == 1:
            await call.answer(b"{}", status="429 Slow down")
        else:
            await judge()(call)

    api = await upstream(script)
    _, running = await moderating(by_api(api.url, "", 'stages = ["input"]'))
    assert await ask(running)
    assert len(api.calls) == 2


async def test_thresholds_and_actions_are_the_operators(moderating, upstream):
    api = await upstream(judge())
    categories = 'categories = [{{ name = "{}", {} }}]'
    for name, rule, blocks in (
        ("harassment", "threshold = 0.95", False),
        ("harassment", 'action = "flag"', False),
        ("harassment", 'action = "ignore"', False),
        ("violence", "threshold = 0.15", True),
    ):
        _, running = await moderating(by_api(api.url, "", categories.format(name, rule)))
        if blocks:
            with pytest.raises(openai.BadRequestError):
                await ask(running, "Hello")
        else:
            assert await ask(running, "How nasty")


# ---- output

ANSWER = "Well, let me think about that. It is a rather nasty thing to say. And so on."


def says(text: str, pause: float = 0):
    async def script(call):
        if not call.json.get("stream"):
            await call.answer(completion(text))
            return
        await call.start_stream()
        for event in chunks(text, call.json):
            await call.chunk(event)
            await asyncio.sleep(pause)
        await call.end_chunks()

    return script


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
    await asyncio.wait_for(left.wait(), 2)


async def test_a_silent_upstream_does_not_hold_back_what_came_before(moderating):
    async def script(call):
        await call.start_stream()
        for event in chunks("Let me see", call.json)[:-2]:
            await call.chunk(event)
        await asyncio.sleep(3)

    _, running = await moderating(LISTS, script)
    start, shown = time.perf_counter(), {}
    with pytest.raises(openai.APIError):
        await streamed(running, seen=lambda text: shown.setdefault(text, time.perf_counter()))
    assert shown["Let me see"] - start < 2


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
    await asyncio.wait_for(closed.wait(), 1)


async def test_the_moderation_field_of_a_request_passes(moderating):
    up, running = await moderating()
    field = {"model": "omni-moderation-latest", "policy": {"input": {"mode": "score"}}}
    await ask(running, extra_body={"moderation": field})
    assert up.calls[0].json["moderation"] == field
