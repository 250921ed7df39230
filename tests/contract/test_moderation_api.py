"""The input by the Moderation API: when it is asked, and what happens where it fails."""

from __future__ import annotations

import asyncio

import msgspec
import openai
import pytest

from tests.support.moderation import ask, broken, by_api, hanging, judge, limited, streamed
from tests.support.raw import metric
from tests.support.upstream import chunks


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
    said, closed = asyncio.Event(), asyncio.Event()

    async def script(call):
        await call.start_stream()
        await call.chunk(chunks("Secret", call.json)[1])
        said.set()
        await call.wait_closed()
        closed.set()

    async def verdict(call):
        await said.wait()
        await judge()(call)

    api = await upstream(verdict)
    up, running = await moderating(by_api(api.url, "", 'timeout = "10 s"'), script)
    with pytest.raises(openai.BadRequestError):
        await streamed(running, "How nasty")
    await asyncio.wait_for(closed.wait(), 10)
    assert len(up.calls) == 1


async def test_before_the_call_nothing_reaches_the_upstream(moderating, upstream):
    api = await upstream(judge())
    up, running = await moderating(by_api(api.url, 'input.order = "before"'))
    with pytest.raises(openai.BadRequestError):
        await ask(running, "How nasty")
    assert up.calls == []


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


PICTURE = "data:image/png;base64,iVBORw0KGgo="
ELSEWHERE = "https://example.invalid/picture.png"


def shows(*urls: str):
    """A user's message with pictures."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


def judge_of_pictures(bad: str):
    """The script of a Moderation API that takes one picture at a time, as OpenAI's does."""

    async def script(call):
        given = call.json["input"]
        if isinstance(given[0], str):
            await judge()(call)
            return
        ((kind, url),) = [(part["type"], part["image_url"]["url"]) for part in given]
        assert kind == "image_url"
        result = {
            "flagged": url == bad,
            "categories": {"sexual": url == bad},
            "category_scores": {"sexual": 0.9 if url == bad else 0.0},
            "category_applied_input_types": {"sexual": ["image"]},
        }
        await call.answer(msgspec.json.encode({"id": "m", "model": "m", "results": [result]}))

    return script


@pytest.mark.parametrize("order", ["before", "parallel"])
async def test_pictures_are_asked_about_one_by_one_and_once(moderating, upstream, order):
    api = await upstream(judge_of_pictures(bad=ELSEWHERE))
    tables = by_api(api.url, f'input.order = "{order}"', 'images = true\nstages = ["input"]')
    up, running = await moderating(tables)
    assert await ask(running, shows(PICTURE))
    with pytest.raises(openai.BadRequestError):
        await ask(running, shows(PICTURE, ELSEWHERE))
    asked = [call.json["input"][0] for call in api.calls]
    assert [each["image_url"]["url"] for each in asked if isinstance(each, dict)] == [
        PICTURE,
        ELSEWHERE,
    ]
    assert len(up.calls) == (1 if order == "before" else 2)


async def test_pictures_stay_here_unless_the_operator_wants_them_asked_about(moderating, upstream):
    api = await upstream(judge_of_pictures(bad=PICTURE))
    _, running = await moderating(by_api(api.url))
    assert await ask(running, shows(PICTURE))
    assert all(isinstance(each, str) for call in api.calls for each in call.json["input"])


async def test_a_picture_that_cannot_be_judged_is_no_reason_to_leave_the_api_alone(
    moderating, upstream
):
    async def script(call):
        if isinstance(call.json["input"][0], str):
            await judge()(call)
        else:
            error = {"error": {"message": "Invalid image.", "type": "invalid_request_error"}}
            await call.answer(msgspec.json.encode(error), status="400 Bad Request")

    api = await upstream(script)
    _, running = await moderating(by_api(api.url, "", 'images = true\nstages = ["input"]'))
    for number in range(6):
        with pytest.raises(openai.InternalServerError):
            await ask(running, shows(f"{PICTURE}{number}"))
    assert await ask(running, "Hello")


async def test_without_a_cache_each_text_is_asked_about(moderating, upstream):
    api = await upstream(judge())
    _, running = await moderating(by_api(api.url, "cache = 0", 'stages = ["input"]'))
    assert await ask(running)
    assert await ask(running)
    assert len(api.calls) == 2
