"""Errors, delays and broken connections come on demand, and headers as from the real API."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI

from proxy.demo import Upstream
from proxy.demo import upstream as upstream_module

USER = {"role": "user", "content": "Hi"}


async def ask(client, demo, **fields):
    return await client.chat.completions.create(
        model="m", messages=[USER], extra_body={"demo": demo}, **fields
    )


async def read(client, demo, into):
    async for chunk in await ask(client, demo, stream=True):
        into.append(chunk)


@pytest.mark.parametrize(
    ("status", "raised", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (403, openai.PermissionDeniedError, "unsupported_country_region_territory"),
        (404, openai.NotFoundError, "model_not_found"),
        (409, openai.ConflictError, None),
        (422, openai.UnprocessableEntityError, None),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, None),
        (503, openai.InternalServerError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_on_demand_is_the_clients_exception(client, status, raised, code, stream):
    with pytest.raises(raised) as caught:
        await ask(client, {"error": status}, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code


async def test_message_code_and_retry_after_of_an_error_are_free(client):
    demo = {"error": 429, "message": "Later, please", "code": "tokens_gone", "retry_after": "1.5 s"}
    with pytest.raises(openai.RateLimitError, match="Later") as caught:
        await ask(client, demo)
    assert caught.value.code == "tokens_gone"
    assert caught.value.response.headers["retry-after"] == "1.5"
    assert caught.value.response.headers["retry-after-ms"] == "1500"


@pytest.mark.parametrize("kind", ["embeddings", "moderations"])
async def test_other_endpoints_take_demands_too(client, kind):
    with pytest.raises(openai.RateLimitError):
        await getattr(client, kind).create(
            model="m", input="x", extra_body={"demo": {"error": 429}}
        )


async def test_an_error_comes_inside_a_stream_after_so_many_chunks(client):
    chunks = []
    with pytest.raises(openai.APIError, match="The server had an error"):
        await read(client, {"error_after": 3}, chunks)
    assert len(chunks) == 3


async def test_a_stream_breaks_after_so_many_chunks(client):
    chunks = []
    with pytest.raises((openai.APIConnectionError, openai.APIError)) as caught:
        await read(client, {"break_after": 3}, chunks)
    assert len(chunks) == 3
    assert "error" not in str(caught.value.body or "")


async def test_an_answer_in_one_piece_breaks_amid(client):
    with pytest.raises(openai.APIConnectionError):
        await ask(client, {"break_after": 1})


async def test_the_first_byte_waits_on_demand(client):
    loop = asyncio.get_running_loop()
    start = loop.time()
    await ask(client, {"first_byte_delay": "200 ms"})
    assert loop.time() - start >= 0.2


async def test_each_chunk_waits_on_demand(client):
    loop = asyncio.get_running_loop()
    stream = await ask(client, {"delay": "20 ms"}, stream=True, max_tokens=4)
    times = [loop.time() async for _ in stream]
    assert len(times) >= 4
    assert times[-1] - times[0] >= 0.02 * (len(times) - 2)


async def test_headers_are_those_of_the_real_api(client):
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=[USER])
    again = await client.chat.completions.with_raw_response.create(model="m", messages=[USER])
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-request-id"] != again.headers["x-request-id"]
    assert float(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert raw.headers["server"] == "dragoman-demo"


async def test_an_unknown_url_is_an_error_in_openais_shape(client):
    with pytest.raises(openai.NotFoundError, match="Invalid URL") as caught:
        await client.get("/poems", cast_to=object)
    assert caught.value.type == "invalid_request_error"


async def test_a_body_that_is_too_large_is_an_error_in_openais_shape(monkeypatch):
    monkeypatch.setattr(upstream_module, "MAX_BODY", 1000)
    async with (
        Upstream() as upstream,
        AsyncOpenAI(base_url=upstream.base_url, api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIStatusError, match="too large") as caught:
            await client.embeddings.create(model="m", input="x" * 2000)
    assert caught.value.status_code == 413


async def test_a_wrong_method_is_an_error_in_openais_shape(client):
    with pytest.raises(openai.APIStatusError, match="Not allowed to GET") as caught:
        await client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405
