"""Clients that wait for their turn, at a real proxy; and mistakes in the options."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest

from plugins.rate_limit import RateLimit
from proxy.testing import plugin_test
from tests.support.configs import UPSTREAM, problems
from tests.support.raw import Client, ask_chat, chat_body, request

REQUESTS = '[[plugins.limits]]\nname = "r"\nrequests = {}\nperiod = "{}"\n'
PLACES = '[[plugins.limits]]\nname = "c"\nconcurrent = {}\n'
TABLE = '[[plugins]]\nuse = "rate_limit"\n'


async def test_requests_wait_for_their_turn():
    options = 'max_wait = "5 s"\n' + REQUESTS.format(10, "1 s") + 'burst = "100 ms"\n'
    async with plugin_test(RateLimit, options, reply="hello") as test:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(test.ask("Hi"))
        assert 0.65 < time.monotonic() - begun < 2


async def test_who_has_waited_for_too_long_is_refused_with_the_headers():
    options = 'max_wait = "200 ms"\n' + REQUESTS.format(1, "1 min")
    async with plugin_test(RateLimit, options, reply="hello") as test:
        await test.ask("Hi")
        begun = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            await test.ask("Hi")
        assert 0.19 < time.monotonic() - begun < 1
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


async def test_those_who_wait_are_not_many():
    options = 'max_wait = "300 ms"\nmax_waiting = 2\n' + REQUESTS.format(1, "1 min")
    async with plugin_test(RateLimit, options, reply="hello") as test:
        await test.ask("Hi")
        begun = time.monotonic()
        asked = [asyncio.create_task(test.ask("Hi")) for _ in range(6)]
        done, waiting = await asyncio.wait(asked, timeout=0.2)
        assert (len(done), len(waiting)) == (4, 2)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in found} == {openai.RateLimitError}
        assert time.monotonic() - begun < 1


async def test_a_place_that_becomes_free_is_taken_at_once(proxy, upstream):
    async def script(call):
        if call.json.get("stream"):
            await call.start_stream()
            await call.wait_closed()
        else:
            await call.chat()

    table = TABLE + 'max_wait = "5 s"\n' + PLACES.format(1)
    running = await proxy((await upstream(script)).url, table)
    async with await Client.open(running.server.port) as holding:
        await holding.send(request(chat_body(stream=True)))
        await holding.head()
        waiting = asyncio.create_task(ask_chat(running))
        await asyncio.sleep(0.3)
        holding.reset()
        begun = time.monotonic()
        assert (await waiting).status == 200
        assert time.monotonic() - begun < 0.2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "limits"),
        ("limits = []", "limits"),
        ('[[plugins.limits]]\nname = "x"\n', "the limit x has neither requests, tokens nor"),
        (REQUESTS.format(1, "1 s") * 2, "two limits have the same name"),
        (REQUESTS.format(0, "1 s"), "requests"),
        (REQUESTS.format(1, "0 s"), "period"),
        ('[[plugins.limits]]\nname = "x"\nper = "user"\nrequests = 1\n', "per"),
    ],
)
def test_mistakes_are_said_at_start(options, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert any(problem in said for said in problems(UPSTREAM + TABLE + options))
