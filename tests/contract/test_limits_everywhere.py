"""No way round: limits and budgets hold on every path that is forwarded, as they do for chats."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import openai
import pytest

from tests.support.frames import TEXT, accept, client_socket, handshake
from tests.support.raw import ask_chat, metric
from tests.support.redis import running as redis_server
from tests.support.redis import until
from tests.support.wire import chunked, connected, fetch, request_head

JSON = ("Content-Type", "application/json")
LIMITS = '[[plugins]]\nuse = "rate_limit"\n'
LIMIT = '[[plugins.limits]]\nname = "x"\n{}\n'
BUDGET = '[[plugins]]\nuse = "budget"\n[[plugins.budgets]]\nname = "b"\n{}\n'
PRICE = '[[plugins.prices]]\nmodels = ["m*"]\ninput = 1\noutput = 4\n'
ENDPOINTS = [
    ("POST", "/v1/responses"),
    ("POST", "/v1//responses"),
    ("POST", "/v1/Responses/"),
    ("POST", "/v1/responses%2Finput_tokens"),
    ("POST", "/v1/completions;x=1"),
    ("POST", "/v1/conversations/c/items"),
    ("POST", "/v1/threads/runs"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/realtime/client_secrets"),
    ("POST", "/v1/live"),
    ("POST", "/v1/agents/sessions"),
    ("POST", "/v1/decisions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/deployments/d/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/files"),
    ("POST", "/v1/audio/speech"),
    ("GET", "/v1/models"),
    ("DELETE", "/v1/files/f"),
    ("PATCH", "/v1/whatever"),
]
USAGE = b'{"model":"m-1","usage":{"input_tokens":600,"output_tokens":100}}'


def bearer(name):
    return ("Authorization", f"Bearer {name}")


async def post(running, target="/v1/responses", body=b'{"model":"m-1"}', *more):
    return await fetch(running.base_url, "POST", target, JSON, *more, body=body)


async def message(socket):
    async with asyncio.timeout(10):
        frame = await socket.receive()
    assert frame is not None
    return frame


async def accounted(running, count):
    """Wait until so many answers have been counted."""

    async def are_counted():
        return await metric(running, "dragoman_usage_source_total") >= count

    await until(are_counted)


# ---- requests


@pytest.mark.parametrize(("method", "target"), ENDPOINTS)
async def test_requests_are_limited_with_the_same_answer_and_headers(
    plain, upstream, method, target
):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, LIMITS + LIMIT.format("requests = 1"))
    body = b'{"model":"m-1"}' if method == "POST" else None
    first = await fetch(running.base_url, method, target, bearer("a"), JSON, body=body)
    assert first.status == 200
    assert first.header("x-ratelimit-limit-requests") == "1"
    assert first.header("x-ratelimit-remaining-requests") == "0"
    refused = await fetch(running.base_url, method, target, bearer("a"), JSON, body=body)
    assert refused.status == 429
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert refused.header("retry-after") == "60"
    assert refused.header("x-ratelimit-remaining-requests") == "0"
    other = await fetch(running.base_url, method, target, bearer("b"), JSON, body=body)
    assert other.status == 200
    assert len(up.calls) == 2


async def test_chats_and_all_else_share_their_limits(plain, upstream):
    up = await upstream(lambda call: call.chat() if b"chat" in call.head else call.answer())
    running = await plain(up.url, LIMITS + LIMIT.format("requests = 3"))
    assert (await ask_chat(running)).status == 200
    assert (await post(running)).status == 200
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime")).status == 200  # as the script answers
    assert (await ask_chat(running)).status == 429
    assert (await post(running)).status == 429
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime")).status == 429
    assert len(up.calls) == 3


async def test_the_real_client_gets_its_own_error(plain, upstream):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, LIMITS + LIMIT.format("requests = 1"))
    async with running.client() as client:
        await client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            await client.embeddings.create(model="e", input="x")
    assert caught.value.code == "rate_limit_exceeded"


async def test_a_refusal_of_an_unguarded_endpoint_counts_nowhere(plain, upstream):
    up = await upstream(lambda call: call.answer())
    refuse = 'server.unguarded = "refuse"\n'
    running = await plain(up.url, refuse + LIMITS + LIMIT.format("requests = 1"))
    assert [(await post(running)).status for _ in range(3)] == [403] * 3
    assert (await post(running, "/v1/embeddings")).status == 200


# ---- limits on models


async def test_a_limit_on_a_model_holds_where_the_model_is_named_or_may_be_any(plain, upstream):
    up = await upstream(lambda call: call.answer())
    limit = 'per = "global"\nrequests = 1\nmatch = { models = ["o3*"] }'
    running = await plain(up.url, LIMITS + LIMIT.format(limit))
    assert (await post(running, "/v1/embeddings", b'{"model":"o3-e"}')).status == 200
    for target, body in (
        ("/v1/embeddings", b'{"model":"e"}'),
        ("/v1/embeddings", b"{}"),
        ("/v1/files", b"o3"),
        ("/v1/responses", b'{"model":"m"}'),
        ("/v1/deployments/m/chat/completions", b'{"model":"o3"}'),
    ):
        assert (await post(running, target, body)).status == 200, (target, body)
    for target, body in (
        ("/v1/embeddings", b'{"model":"o3"}'),
        ("/v1/responses", b'{"model":"o3"}'),
        ("/v1/responses", b'{"model":"m","mod\\u0065l":"o3"}'),
        ("/v1/responses", b'{"model":"m",'),
        ("/v1/threads/runs", b'{"assistant_id":"asst_1"}'),
        ("/v1/deployments/o3/chat/completions", b'{"model":"m"}'),
    ):
        assert (await post(running, target, body)).status == 429, (target, body)
    for target in ("/v1/realtime?model=o3", "/v1/realtime?model=m&model=o3", "/v1/responses"):
        async with connected(running.base_url) as client:
            assert (await handshake(client, target)).status == 429
    async with connected(running.base_url) as client:
        await client.ask("POST", "/v1/responses", JSON, ("Transfer-Encoding", "chunked"))
        assert (await client.head()).status == 429  # its body is not waited for


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_the_model_is_seen_too_where_the_body_was_read_for_a_key_that_may_ask_some(
    plain, upstream, framing
):
    up = await upstream(lambda call: call.answer())
    key = sha256(b"sk-some").hexdigest()
    limit = LIMIT.format('requests = 1\nmatch = { models = ["m-1"] }')
    table = f'upstream.api_key = "none"\n[[keys]]\nname = "k"\nsha256 = "{key}"\nmodels = ["m-*"]\n'
    running = await plain(up.url, table + LIMITS + limit)

    async def status(body):
        fields = [("Host", "proxy.test"), bearer("sk-some"), JSON]
        if framing == "length":
            fields.append(("Content-Length", str(len(body))))
        else:
            fields.append(("Transfer-Encoding", "chunked"))
            body = chunked([body[:5], body[5:]])
        async with connected(running.base_url) as client:
            await client.send(request_head("POST", "/v1/responses", fields) + body)
            return (await client.answer()).status

    assert [await status(b'{"model":"m-2"}') for _ in range(3)] == [200] * 3
    assert [await status(b'{"model":"m-1"}') for _ in range(2)] == [200, 429]
    assert up.calls[-1].body == b'{"model":"m-1"}'


# ---- places


async def test_a_request_holds_a_place_until_its_answer_ends_and_a_websocket_while_it_lives(
    plain, upstream
):
    async def script(call):
        if call.header("upgrade"):
            await (await accept(call)).receive()
        elif call.target.endswith("slow"):
            await call.start_stream()
            await call.wait_closed()
        else:
            await call.answer()

    running = await plain((await upstream(script)).url, LIMITS + LIMIT.format("concurrent = 2"))

    async def is_free():
        return (await post(running)).status == 200

    async with connected(running.base_url) as one, connected(running.base_url) as two:
        assert (await handshake(one, "/v1/realtime?model=m")).status == 101
        await two.post("/v1/slow", b"{}")
        assert (await two.head()).status == 200
        assert (await post(running)).status == 429
        async with connected(running.base_url) as third:
            assert (await handshake(third, "/v1/realtime?model=m")).status == 429
        one.close()
        await until(is_free)
    assert await is_free()
    await until(is_free)


# ---- tokens


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_tokens_are_charged_when_they_are_known_and_an_empty_bucket_refuses(
    plain, upstream, where
):
    async def script(call):
        answer = b"{}" if call.target == "/v1/models" else USAGE
        await call.answer(answer)

    up = await upstream(script)
    limits = LIMITS + LIMIT.format('tokens = 1_000\nperiod = "24 h"')

    async def hold(store):
        running = await plain(up.url, store + limits)
        assert (await post(running)).header("x-ratelimit-remaining-tokens") == "1000"

        async def has_been_charged():
            models = await fetch(running.base_url, "GET", "/v1/models")
            return models.header("x-ratelimit-remaining-tokens") == "300"

        await until(has_been_charged)
        assert (await post(running)).status == 200

        async def is_refused():
            return (await fetch(running.base_url, "GET", "/v1/models")).status == 429

        await until(is_refused)  # 1,400 of 1,000: one answer more than there was
        refused = await post(running)
        assert refused.json["error"]["type"] == "tokens"

    if where == "memory":
        await hold("")
    else:
        async with redis_server() as redis:
            await hold(f'store.url = "{redis.url}"\nstore.timeout = "3 s"\n')


async def test_tokens_of_a_websocket_are_charged_after_each_answer(plain, upstream):
    ended = asyncio.Event()

    async def script(call):
        if call.header("upgrade"):
            socket = await accept(call)
            await socket.send(TEXT, b'{"type":"response.done","response":' + USAGE + b"}")
            await ended.wait()
        else:
            await call.answer()

    limits = LIMITS + LIMIT.format('tokens = 1_000\nperiod = "24 h"')
    running = await plain((await upstream(script)).url, limits)
    async with connected(running.base_url) as client:
        answer = await handshake(client, "/v1/realtime?model=m")
        assert answer.header("x-ratelimit-remaining-tokens") == "1000"
        await client_socket(client).receive()

        async def has_been_charged():
            models = await fetch(running.base_url, "GET", "/v1/models")
            return models.header("x-ratelimit-remaining-tokens") == "300"

        await until(has_been_charged)
        ended.set()


# ---- budgets


@pytest.mark.parametrize(
    ("budget", "count"), [("tokens = 1_500", 3), ("usd = 0.0025", 3), ("usd = 0.001", 1)]
)
async def test_what_answers_cost_adds_up_until_nothing_goes_on(plain, upstream, budget, count):
    up = await upstream(lambda call: call.answer(USAGE))  # 0.001 dollars each
    running = await plain(up.url, BUDGET.format(budget) + PRICE)
    statuses = []
    while not statuses or statuses[-1] == 200:
        statuses.append((await post(running)).status)
        await accounted(running, min(len(statuses), count))
    assert statuses == [200] * count + [429]
    refused = await post(running, "/v1/embeddings")
    assert refused.json["error"]["code"] == "insufficient_quota"
    assert refused.header("x-should-retry") == "false"
    assert (await ask_chat(running)).status == 429
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime")).status == 429
    assert len(up.calls) == count


async def test_the_price_is_that_of_the_model_that_answered_or_else_of_the_one_asked_for(
    plain, upstream
):
    usage = b'{"usage":{"prompt_tokens":1000000,"total_tokens":1000000}}'
    up = await upstream(lambda call: call.answer(usage))
    running = await plain(up.url, BUDGET.format("usd = 2"))
    body = b'{"model":"gpt-3.5-turbo-instruct"}'  # 1.50 dollars
    for count in (1, 2):
        assert (await post(running, "/v1/completions", body)).status == 200
        await accounted(running, count)
    assert (await post(running, "/v1/completions", body)).status == 429
    assert await metric(running, "dragoman_budget_unpriced_total") == 0


async def test_a_websocket_ends_when_the_budget_is_spent(plain, upstream):
    async def script(call):
        socket = await accept(call)
        for _ in range(3):
            await socket.send(TEXT, b'{"type":"response.done","response":' + USAGE + b"}")
        await socket.receive()
        await socket.close(1000)

    running = await plain((await upstream(script)).url, BUDGET.format("tokens = 1_000"))
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime?model=m")).status == 101
        socket = client_socket(client)
        assert [(await message(socket)).kind for _ in range(2)] == [TEXT, TEXT]
        closed = await message(socket)
        assert (closed.code, closed.reason) == (1008, "insufficient_quota")


@pytest.mark.parametrize("is_chat", [True, False])
async def test_what_runs_is_set_aside_so_that_many_at_once_do_not_exceed_a_budget(
    plain, upstream, is_chat
):
    go_on = asyncio.Event()
    go_on.set()

    async def script(call):
        await go_on.wait()
        await (call.chat("Hi", (600, 100)) if is_chat else call.answer(USAGE))

    up = await upstream(script)
    running = await plain(up.url, BUDGET.format("tokens = 3_000"))

    async def ask():
        return (await (ask_chat(running) if is_chat else post(running))).status

    assert await ask() == 200
    await accounted(running, 1)
    go_on.clear()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask()) for _ in range(10)]

        async def are_decided():
            return sum(task.done() for task in asked) + len(up.calls) == 11

        await until(are_decided)
        go_on.set()
    assert sorted(task.result() for task in asked) == [200] * 4 + [429] * 6
    await accounted(running, 5)
    assert await ask() == 429  # 3,500 of 3,000: one answer more than there was
