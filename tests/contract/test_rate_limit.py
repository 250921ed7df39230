"""rate_limit as clients meet it: refusals, headers, waiting, and what is given back."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import openai
import pytest

from plugins.rate_limit import RateLimit
from proxy.testing import UpstreamError, plugin_test
from tests.support.raw import Client, admin, ask_chat, chat_body, metric, request
from tests.support.upstream import completion

REQUESTS = '[[plugins.limits]]\nname = "r"\nrequests = {}\nperiod = "{}"\n'
TOKENS = '[[plugins.limits]]\nname = "t"\ntokens = {}\n'
PLACES = '[[plugins.limits]]\nname = "c"\nconcurrent = {}\n'
TABLE = '[[plugins]]\nuse = "rate_limit"\n'


async def raw(test, text="Hi", **fields):
    """The headers of an answer."""
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **fields}
    answer = await test.client.chat.completions.with_raw_response.create(**asked)
    return answer.headers


def left(answer, unit="tokens"):
    return int(answer.header(f"x-ratelimit-remaining-{unit}"))


# ---- refusals and headers


async def test_a_request_beyond_the_limit_is_refused_as_openai_does():
    async with plugin_test(RateLimit, REQUESTS.format(2, "1 min"), reply="hello") as test:
        assert (await raw(test))["x-ratelimit-remaining-requests"] == "1"
        await test.ask("Hi")
        with pytest.raises(openai.RateLimitError) as caught:
            await test.ask("Hi")
        assert await test.outcomes() == {"RateLimit": "reject"}
        assert len(test.sent) == 2
    error, told = caught.value, caught.value.response.headers
    assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
    assert "on requests per min (r): Limit 2, Used 2, Requested 1." in error.message
    assert 29_000 < int(told["retry-after-ms"]) <= 30_000
    assert told["retry-after"] == "30"
    assert told["x-ratelimit-limit-requests"] == "2"
    assert told["x-ratelimit-remaining-requests"] == "0"
    assert told["x-ratelimit-reset-requests"].startswith(("59.", "1m0"))


async def test_the_client_of_openai_comes_again_when_it_is_told_to():
    async with plugin_test(RateLimit, REQUESTS.format(1, "300 ms"), reply="hello") as test:
        patient = test.client.with_options(max_retries=2)
        begun = time.monotonic()
        for _ in range(3):
            await patient.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]
            )
        assert 0.55 < time.monotonic() - begun < 2


async def test_the_same_headers_are_on_answers_and_on_streams():
    options = REQUESTS.format(10, "1 min") + TOKENS.format(5_000)
    async with plugin_test(RateLimit, options, reply="hello") as test:
        for number, fields in enumerate([{}, {"stream": True}], 1):
            found = await raw(test, max_tokens=100, **fields)
            assert found["x-ratelimit-limit-requests"] == "10"
            assert found["x-ratelimit-remaining-requests"] == str(10 - number)
            assert found["x-ratelimit-limit-tokens"] == "5000"
            assert 4_700 < int(found["x-ratelimit-remaining-tokens"]) < 4_900
            assert found["x-ratelimit-reset-tokens"].endswith("s")


async def test_the_headers_of_the_upstream_give_way_to_ours(proxy, upstream):
    async def script(call):
        theirs = (("x-ratelimit-limit-requests", "9"), ("x-ratelimit-limit-tokens", "7"))
        await call.answer(completion("hi"), headers=theirs)

    running = await proxy((await upstream(script)).url, TABLE + REQUESTS.format(5, "1 min"))
    answer = await ask_chat(running)
    found = [value for name, value in answer.headers if name == "x-ratelimit-limit-requests"]
    assert found == ["5"]
    assert answer.header("x-ratelimit-limit-tokens") == "7"


async def test_the_request_goes_on_byte_for_byte(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url, TABLE + REQUESTS.format(5, "1 min") + TOKENS.format(1_000))
    body = chat_body("Hi", max_tokens=7, unknown={"a": 1})
    async with await Client.open(running.server.port) as client:
        await client.send(request(body))
        assert (await client.answer()).status == 200
    assert up.calls[0].body == body


async def test_one_table_may_hold_several_limits_for_several_callers_and_models():
    options = (
        REQUESTS.format(3, "1 min")
        + '[[plugins.limits]]\nname = "dear"\nper = "model"\nrequests = 1\n'
        + 'match.models = ["gpt-4o"]\n'
    )
    async with plugin_test(RateLimit, options, reply="hello") as test:
        await test.ask("Hi", model="gpt-4o")
        other = test.client.with_options(api_key="sk-other")
        with pytest.raises(openai.RateLimitError, match=r"\(dear\)"):
            await other.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Hi"}]
            )
        await test.ask("Hi")
        await test.ask("Hi")
        with pytest.raises(openai.RateLimitError, match=r"\(r\)"):
            await test.ask("Hi")


async def test_sessions_of_one_caller_have_allowances_of_their_own():
    options = '[[plugins.limits]]\nname = "s"\nper = "session"\nrequests = 1\n'
    async with plugin_test(RateLimit, options, reply="hello") as test:
        for session in ({"x-dragoman-session": "a"}, {"x-dragoman-session": "b"}, {}):
            await test.ask("Hi", extra_headers=session)
            with pytest.raises(openai.RateLimitError):
                await test.ask("Hi", extra_headers=session)


async def test_metrics_and_the_trace_say_which_limit_refused(proxy, upstream):
    running = await proxy((await upstream()).url, TABLE + REQUESTS.format(1, "1 min"))
    assert [(await ask_chat(running)).status for _ in range(3)] == [200, 429, 429]
    name = 'dragoman_rate_limit_decisions_total{buckets="regular",limit="r",outcome="refused"}'
    assert f"{name} 2.0" in (await admin(running, "/metrics")).body.decode()
    assert await metric(running, "dragoman_rate_limit_decisions_total") == 3


# ---- tokens


@pytest.fixture
async def metered(proxy, upstream):
    """A proxy with a limit of 10,000 tokens a day, and a script of its upstream."""

    async def start(script, options=""):
        limit = '[[plugins.limits]]\nname = "t"\ntokens = 10_000\nperiod = "24 h"\n'
        return await proxy((await upstream(script)).url, TABLE + options + limit)

    return start


async def next_left(running, expected):
    """What is left at the next request, before its own share; once accounts are settled."""
    async with asyncio.timeout(5):
        while True:
            found = left(await ask_chat(running, max_tokens=1))
            if abs(found - expected) < 400:
                return found
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_real_usage_is_what_counts_in_the_end(metered, stream):
    usage = [(1_000, 2_000)]

    async def script(call):
        await call.chat("hello", usage.pop() if usage else (8, 1))

    running = await metered(script)
    answer = await ask_chat(running, max_tokens=100, stream=stream)
    assert 9_880 < left(answer) < 9_895  # 100 for the answer, and the prompt
    assert 6_900 < await next_left(running, 7_000) < 7_000


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error"])
async def test_an_error_of_the_upstream_costs_no_tokens(metered, status):
    async def script(call):
        if call.json.get("max_tokens") == 5_000:
            await call.answer(b'{"error": {"message": "no"}}', status=status)
        else:
            await call.chat("hello", (8, 1))

    running = await metered(script)
    assert left(await ask_chat(running, max_tokens=5_000)) < 5_000
    assert await next_left(running, 9_950) > 9_900


async def test_an_upstream_that_breaks_costs_no_tokens(metered):
    async def script(call):
        if call.json.get("max_tokens") == 5_000:
            call.reset()
        else:
            await call.chat("hello", (8, 1))

    running = await metered(script)
    assert (await ask_chat(running, max_tokens=5_000)).status == 502
    assert await next_left(running, 9_950) > 9_900


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_pays_for_what_was_made_and_no_more(metered, stream):
    async def script(call):
        if call.json.get("max_tokens") != 5_000:
            await call.chat("hello", (8, 1))
            return
        if stream:
            await call.start_stream()
        await call.wait_closed()

    running = await metered(script)
    async with await Client.open(running.server.port) as client:
        await client.send(request(chat_body(max_tokens=5_000, stream=stream)))
        await asyncio.sleep(0.1)
    assert await next_left(running, 9_950) > 9_900


async def test_what_a_plugin_answers_costs_no_tokens(tmp_path):
    (tmp_path / "faq.py").write_text(
        "from proxy.plugin import Plugin, answer\n"
        "class Faq(Plugin):\n"
        "    async def handle(self, request, call_next):\n"
        '        return answer(request, "word " * 300)\n'
    )
    table = TABLE + TOKENS.format(2_000) + '[[plugins]]\nuse = "./faq.py:Faq"\n'
    async with plugin_test(table, folder=tmp_path) as test:
        for _ in range(20):
            assert await test.ask("Hi", max_tokens=1_500)
            await test.turn()


async def test_a_limit_below_one_request_lets_one_through():
    async with plugin_test(RateLimit, TOKENS.format(5), reply="hello") as test:
        await test.ask("Hi, this is longer than five tokens.")
        with pytest.raises(openai.RateLimitError) as caught:
            await test.ask("Hi")
        assert caught.value.type == "tokens"


# ---- places


@asynccontextmanager
async def held(running, count, **fields):
    """Clients whose answers do not end."""
    clients = [await Client.open(running.server.port) for _ in range(count)]
    for client in clients:
        await client.send(request(chat_body(stream=True, **fields)))
    try:
        yield [await client.head() for client in clients], clients
    finally:
        for client in clients:
            client.reset()


async def test_places_are_free_again_when_answers_end_or_clients_leave(proxy, upstream):
    async def script(call):
        if call.json.get("stream"):
            await call.start_stream()
            await call.wait_closed()
        else:
            await call.chat()

    running = await proxy((await upstream(script)).url, TABLE + PLACES.format(3))
    async with held(running, 3) as (heads, _):
        assert [head.status for head in heads] == [200] * 3
        refused = await ask_chat(running)
        assert (refused.status, refused.header("retry-after")) == (429, "1")
    async with asyncio.timeout(5):
        while (await ask_chat(running)).status != 200:
            await asyncio.sleep(0.02)
    assert [(await ask_chat(running)).status for _ in range(5)] == [200] * 5


# ---- what is not limited


async def test_it_runs_in_shadow_and_refuses_nobody():
    table = TABLE + 'mode = "shadow"\n' + REQUESTS.format(1, "1 min") + PLACES.format(1)
    async with plugin_test(table, reply="hello") as test:
        for _ in range(3):
            await test.ask("Hi")
        turn = await test.turn()
        assert [plugin.outcome for plugin in turn.plugins] == ["reject"]


async def test_an_upstream_error_raised_by_the_demo_is_passed_on():
    async with plugin_test(RateLimit, TOKENS.format(1_000), reply=UpstreamError(503)) as test:
        for _ in range(5):
            with pytest.raises(openai.InternalServerError):
                await test.ask("Hi", max_tokens=900)
            await test.turn()
