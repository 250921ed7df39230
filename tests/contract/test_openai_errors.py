"""Errors, as the real openai client raises them."""

from __future__ import annotations

import openai
import pytest

from tests.support.upstream import head
from tests.support.wire import chunked

HI = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}
CLASSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    413: openai.APIStatusError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    529: openai.InternalServerError,
}


@pytest.mark.parametrize("status", CLASSES)
async def test_an_error_of_the_upstream_is_the_same_exception(both, status):
    async def use(client):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.models.retrieve(str(status))
        error = caught.value
        details = (error.message, error.body, error.code, error.param, error.type)
        return type(error), details, error.request_id, error.response.headers["retry-after"]

    kind, (_, _, code, *_), request_id, retry_after = await both.ask(use)
    assert kind is CLASSES[status]
    assert (code, request_id, retry_after) == (f"c{status}", "req_like_openai", "7")


async def asking(running, **options):
    async with running.client(**options) as client:
        stream = await client.chat.completions.create(**HI, stream=True)
        return [chunk async for chunk in stream]


async def test_an_error_that_is_no_json_is_raised_with_its_status(plain, upstream):
    html = {"status": "502 Bad Gateway", "content_type": "text/html"}
    up = await upstream(lambda call: call.answer(b"<html>nginx</html>", **html))
    with pytest.raises(openai.InternalServerError) as caught:
        await asking(await plain(up.url))
    assert (caught.value.status_code, caught.value.code) == (502, None)
    assert caught.value.response.text == "<html>nginx</html>"


async def test_a_client_that_retries_gets_its_answer_in_the_end(plain, upstream):
    async def sometimes(call):
        if len(up.calls) < 3:
            soon = (("retry-after-ms", "1"),)
            await call.answer(b"{}", status="429 Slow Down", headers=soon)
        else:
            await call.chat("Hello.")

    up = await upstream(sometimes)
    chunks = await asking(await plain(up.url), max_retries=2)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello."
    assert [call.header("x-stainless-retry-count") for call in up.calls] == ["0", "1", "2"]


async def test_a_client_that_shall_not_retry_does_not(plain, upstream):
    no = (("x-should-retry", "false"),)
    up = await upstream(lambda call: call.answer(b"{}", status="500 No", headers=no))
    with pytest.raises(openai.InternalServerError):
        await asking(await plain(up.url), max_retries=2)
    assert len(up.calls) == 1


BEGUN = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Bon"}}]}\n\n'
EVENTS = ("Content-Type", "text/event-stream")
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize("framing", [CHUNKED, ("Connection", "close"), ("Content-Length", "999")])
async def test_a_stream_that_breaks_is_an_error_after_what_came(plain, upstream, framing):
    async def breaking(call):
        data = chunked([BEGUN])[:-5] if framing is CHUNKED else BEGUN
        await call.send(head("200 OK", EVENTS, framing) + data)
        call.writer.close()

    running = await plain((await upstream(breaking)).url)
    async with running.client() as client:
        stream = aiter(await client.chat.completions.create(**HI, stream=True))
        assert (await anext(stream)).choices[0].delta.content == "Bon"
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
    assert caught.value.code == "upstream_truncated"


@pytest.mark.parametrize("name", [b"", b"event: error\n"])
async def test_an_error_inside_a_stream_is_the_upstreams(plain, upstream, name):
    error = b'data: {"error":{"message":"busy","type":"server_error","code":"overloaded"}}\n\n'

    async def failing(call):
        await call.start_stream()
        await call.send(chunked([BEGUN, name + error]))

    running = await plain((await upstream(failing)).url)
    with pytest.raises(openai.APIError) as caught:
        await asking(running)
    assert (caught.value.message, caught.value.code) == ("busy", "overloaded")


@pytest.mark.parametrize(
    ("toml", "kind", "code"),
    [
        ('server.max_body = "10 B"\n[[plugins]]\nuse = "sampling"\n', openai.APIStatusError, 413),
        ('upstream.api_key = "k"\n[[keys]]\nname = "a"\nsha256 = "%s"\n' % ("0" * 64),
         openai.AuthenticationError, 401),
        ('upstream.first_byte_timeout = "50 ms"\n', openai.InternalServerError, 504),
    ],
)  # fmt: skip
async def test_an_error_of_ours_is_one_that_clients_know(plain, upstream, toml, kind, code):
    async def silent(call):
        await call.wait_closed()

    running = await plain((await upstream(silent)).url, toml)
    with pytest.raises(kind) as caught:
        await asking(running)
    error = caught.value
    assert error.status_code == code
    assert error.request_id.startswith("req_")
    assert error.message
    assert error.code


async def test_an_upstream_that_is_not_there_is_a_server_error(plain):
    with pytest.raises(openai.InternalServerError) as caught:
        await asking(await plain("http://127.0.0.1:9/v1"))
    assert caught.value.code == "upstream_unreachable"
