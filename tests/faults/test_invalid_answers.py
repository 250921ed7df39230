"""What an upstream says that is no HTTP, or no sense, harms nobody."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.raw import CHUNKED_HEAD, ask, ask_chat, chat_body, request
from tests.support.upstream import chunks, completion, head

UNCOUNTED = "telemetry.estimate_usage = false"
TRACED = "telemetry.capture_content = true"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
NOT_HTTP = {
    "garbage": b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n",
    "NUL in a header": OK + b"X-Odd: a\0b\r\n\r\n{}",
    "CR in a header": OK + b"X-Odd: a\rSet-Cookie: b=c\r\n\r\n{}",
    "NUL in a header's name": OK + b"X-\0dd: a\r\n\r\n{}",
    "an oversize header": OK + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n{}",
    "too many headers": OK + b"X-Many: a\r\n" * 10_000 + b"\r\n{}",
    "two lengths": OK + b"Content-Length: 3\r\n\r\n{}",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}",
}


def says(data: bytes):
    async def script(call):
        await call.send(data)

    return script


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_no_http_is_a_502(proxy, upstream, data, path, caplog):
    running = await proxy((await upstream(says(data))).url, UNCOUNTED)
    answer = await ask(running, request(chat_body(), target=path))
    assert (answer.status, answer.code) == (502, "upstream_invalid")
    assert b"X-" not in answer.body
    assert "X-" not in caplog.text


async def test_no_http_is_logged_without_its_bytes(proxy, upstream, caplog):
    running = await proxy((await upstream(says(b"HTTP/1.1 canary\r\n\r\n"))).url, UNCOUNTED)
    await ask_chat(running)
    assert "upstream_invalid" in caplog.text
    assert "canary" not in caplog.text
    assert (await running.turns())[0]["termination"] == "upstream_invalid"


async def test_the_connection_of_an_invalid_answer_is_not_used_again(proxy, upstream):
    async def once_bad(call):
        if len(up.calls) == 1:
            await call.send(NOT_HTTP["garbage"])
        else:
            await call.chat()

    up = await upstream(once_bad)
    running = await proxy(up.url)
    assert (await ask_chat(running)).status == 502
    assert (await ask_chat(running)).status == 200
    assert up.connections == 2


BAD_CHUNKS = {
    "no size": b"zz\r\ndata\r\n",
    "a size that is too large": b"ffffffffffffffffff\r\ndata\r\n",
    "a negative size": b"-1\r\ndata\r\n",
    "no end of the chunk": b"4\r\ndataXX",
}


@pytest.mark.parametrize("bad", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
async def test_a_bad_chunk_in_a_stream_ends_it_with_an_error_event(proxy, upstream, bad):
    event = chunks("one", {})[0]
    data = CHUNKED_HEAD + b"%x\r\n%b\r\n" % (len(event), event)

    async def script(call):
        await call.send(data)
        await call.send(bad)

    running = await proxy((await upstream(script)).url, UNCOUNTED)
    answer = await ask_chat(running, stream=True)
    if answer.status == 200:
        assert answer.event_code in ("upstream_invalid", "upstream_truncated")
    else:  # it came together with the head
        assert (answer.status, answer.code) == (502, "upstream_invalid")


async def test_a_bad_chunk_in_an_answer_in_one_piece_is_a_502(proxy, upstream):
    start = head("200 OK", ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
    running = await proxy((await upstream(says(start + b"zz\r\n{}\r\n0\r\n\r\n"))).url)
    answer = await ask_chat(running)
    assert answer.status == 502
    assert answer.code in ("upstream_invalid", "upstream_truncated")


async def test_garbage_behind_an_answer_never_reaches_another_client(proxy, upstream):
    async def script(call):
        body = completion(call.json["messages"][0]["content"])
        smuggled = head("200 OK", ("Content-Length", "8")) + b"SMUGGLED"
        start = head(
            "200 OK", ("Content-Type", "application/json"), ("Content-Length", str(len(body)))
        )
        await call.send(start + body + smuggled)

    running = await proxy((await upstream(script)).url)
    for number in range(6):
        answer = await ask_chat(running, f"number {number}")
        if answer.status == 200:  # a connection that said too much may break the next request
            assert answer.json["choices"][0]["message"]["content"] == f"number {number}"
        assert b"SMUGGLED" not in answer.body


DEEP = b"[" * 50_000 + b"]" * 50_000
ODD = {
    "no JSON": b"<html>Bad gateway</html>",
    "no UTF-8": b'{"id": "\xff\xfe"}',
    "null": b"null",
    "nesting": b'{"usage": %b, "choices": %b}' % (DEEP, DEEP),
    "a list of models": b'{"choices": [null, 1, "a", [], {"message": 3}]}',
    "negative tokens": b'{"usage": {"prompt_tokens": -5, "completion_tokens": -1}}',
    "endless tokens": b'{"usage": {"prompt_tokens": %b, "completion_tokens": 1}}' % (b"9" * 400),
    "tokens that are flags": b'{"usage": {"prompt_tokens": true, "completion_tokens": false}}',
    "details that are none": b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2, '
    b'"prompt_tokens_details": [], "completion_tokens_details": {"reasoning_tokens": -1e400}}}',
    "negative details": b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2, '
    b'"prompt_tokens_details": {"cached_tokens": -7}}}',
    "surrogates": b'{"id": "\\ud800", "model": "\\udfff", "choices": [{"finish_reason": "\\ud800"}]}',
    "odd deltas": b'{"choices": [{"index": [], "delta": {"content": 5}}, {"index": "a", "delta": '
    b'{"tool_calls": [1, {"index": "x"}, {"index": -1}, {"function": []}]}}, {"delta": {"tool_calls": '
    b'7}}], "usage": null}',
    "names that are none": b'{"id": 7, "model": ["gpt"], "system_fingerprint": {}}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_an_answer_that_makes_no_sense_passes_as_it_came(proxy, upstream, collector, body):
    async def script(call):
        await call.answer(body)

    toml = f'{UNCOUNTED}\n{TRACED}\ntelemetry.endpoint = "{collector.url}"'
    running = await proxy((await upstream(script)).url, toml)
    answer = await ask_chat(running)
    assert (answer.status, answer.body) == (200, body)
    assert (await running.turns())[0]["status"] == 200
    await running.stop()
    assert [span.kind for span in collector.spans] == ["SERVER", "CLIENT", "CLIENT"]


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_an_event_that_makes_no_sense_passes_as_it_came(proxy, upstream, collector, body):
    events = [chunks("one", {})[0], b"data: " + body + b"\n\n", b"data: [DONE]\n\n"]

    async def script(call):
        await call.start_stream()
        for event in events:
            await call.chunk(event)
        await call.end_chunks()

    toml = f'upstream.stream_usage = "count"\n{UNCOUNTED}\n{TRACED}\ntelemetry.endpoint = "{collector.url}"'
    running = await proxy((await upstream(script)).url, toml)
    answer = await ask_chat(running, stream=True)
    assert answer.body == b"".join(events)
    assert (await running.turns())[0]["termination"] == "completed"
    await running.stop()
    assert len(collector.spans) == 3


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_an_event_that_makes_no_sense_loses_nothing_but_usage_that_we_asked_for(
    proxy, upstream, body
):
    async def script(call):
        await call.start_stream()
        await call.chunk(b"data: " + body + b"\n\ndata: [DONE]\n\n")
        await call.end_chunks()

    running = await proxy((await upstream(script)).url, UNCOUNTED)
    answer = await ask_chat(running, stream=True)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert b"error" not in answer.body
    assert (await running.turns())[0]["termination"] == "completed"


@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
async def test_a_redirect_is_passed_on_and_never_followed(proxy, upstream, status):
    async def elsewhere(call):
        await call.chat()

    decoy = await upstream(elsewhere)

    async def script(call):
        await call.answer(b"{}", status=status, headers=(("Location", f"{decoy.url}/gone"),))

    running = await proxy((await upstream(script)).url)
    for data in (request(chat_body()), request(method="GET", target="/v1/models")):
        answer = await ask(running, data)
        assert answer.status == int(status[:3])
        assert answer.header("Location") == f"{decoy.url}/gone"
    assert decoy.connections == 0


ERRORS = ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "409 Conflict"]
ERRORS += ["422 Unprocessable Entity", "429 Too Many Requests", "500 Internal Server Error"]
ERRORS += ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "529 Overloaded"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ERRORS)
async def test_an_error_of_the_upstream_is_the_clients_error(proxy, upstream, status, stream):
    body = msgspec.json.encode({"error": {"message": "no", "code": "theirs"}})
    limits = (("Retry-After", "7"), ("x-ratelimit-remaining-tokens", "0"), ("x-request-id", "up"))

    async def script(call):
        await call.answer(body, status=status, headers=limits)

    up = await upstream(script)
    running = await proxy(up.url)
    answer = await ask_chat(running, stream=stream)
    assert (answer.status, answer.body) == (int(status[:3]), body)
    for name, value in limits:
        assert answer.header(name) == value
    asked_again = stream and status[:3] in ("400", "422")  # without the usage that it may not know
    assert len(up.calls) == 1 + asked_again
    turn = (await running.turns())[0]
    assert (turn["status"], turn["termination"]) == (int(status[:3]), "completed")
