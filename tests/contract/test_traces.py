"""What a collector sees of exchanges: an OTLP receiver on a real socket reads the spans back."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import openai
import pytest

from tests.support.tracing import (
    MESSAGES,
    PARENT_ID,
    TRACE_ID,
    TRACEPARENT,
    by_kind,
    complete,
    streamed,
    traced,
)
from tests.support.upstream import chunks, completion
from tests.support.wire import fetch

# ---- the tree


async def test_an_exchange_is_a_server_span_a_chat_and_an_attempt(proxy, upstream, collector):
    up = await upstream()
    running = await proxy(up.url, traced(collector))
    await complete(running, temperature=0.5, max_tokens=9, seed=3, stop=["x"], n=1)
    server, chat_span, (attempt,), _ = by_kind(await collector.wait_for(3))
    assert server.name == "POST /v1/chat/completions"
    assert server.parent_id == ""
    assert chat_span.name == "chat gpt-4o-mini"
    assert chat_span.parent_id == server.span_id
    assert (attempt.name, attempt.parent_id) == ("POST", chat_span.span_id)
    assert server.start <= chat_span.start <= attempt.start <= attempt.end
    assert attempt.end <= chat_span.end <= server.end
    assert chat_span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.response.id": "chatcmpl-test",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "openai.api.type": "chat_completions",
        "openai.response.system_fingerprint": "fp_test",
        "dragoman.usage.source": "upstream",
        "server.address": "127.0.0.1",
        "server.port": int(up.url.rsplit(":", 1)[1].split("/")[0]),
    }
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["dragoman.response.source"] == "upstream"
    assert attempt.attributes["url.full"] == f"{up.url}/chat/completions"
    assert {s.scope for s in (server, chat_span, attempt)} == {"dragoman"}
    assert server.schema_url == "https://opentelemetry.io/schemas/1.41.0"
    assert server.resource["service.name"] == "dragoman"
    assert server.resource["service.instance.id"]


async def test_a_clients_trace_is_continued_and_the_upstream_is_a_child_of_the_attempt(
    proxy, upstream, collector
):
    up = await upstream()
    running = await proxy(up.url, traced(collector))
    async with running.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="m",
            messages=MESSAGES,
            extra_headers={
                "traceparent": TRACEPARENT,
                "tracestate": "vendor=1",
                "baggage": "user=secret",
            },
        )
    server, _, (attempt,), _ = by_kind(await collector.wait_for(3))
    assert (server.trace_id, server.parent_id) == (TRACE_ID, PARENT_ID)
    call = up.calls[0]
    assert call.header("traceparent") == f"00-{TRACE_ID}-{attempt.span_id}-01"
    assert call.header("tracestate") == "vendor=1"
    assert call.header("baggage") is None
    assert raw.headers["traceresponse"] == f"00-{TRACE_ID}-{server.span_id}-01"


async def test_without_traces_the_clients_context_goes_on_untouched(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    sent = {"traceparent": TRACEPARENT, "baggage": "a=b"}
    await complete(running, extra_headers=sent)
    assert {name: up.calls[0].header(name) for name in sent} == sent


async def test_an_untrusted_context_can_be_linked_to_instead(proxy, upstream, collector):
    running = await proxy(
        (await upstream()).url, traced(collector, 'telemetry.incoming_trace = "link"')
    )
    await complete(running, extra_headers={"traceparent": TRACEPARENT})
    server, *_ = by_kind(await collector.wait_for(3))
    assert server.trace_id != TRACE_ID
    assert server.parent_id == ""
    assert server.links == [(TRACE_ID, PARENT_ID)]


@pytest.mark.parametrize(
    "value", ["", "garbage", f"00-{'0' * 32}-{PARENT_ID}-01", "ff" + TRACEPARENT[2:]]
)
async def test_a_context_that_is_none_starts_a_trace_of_its_own(proxy, upstream, collector, value):
    running = await proxy((await upstream()).url, traced(collector))
    await complete(running, extra_headers={"traceparent": value})
    server, *_ = by_kind(await collector.wait_for(3))
    assert server.parent_id == ""
    assert server.trace_id != "0" * 32


async def test_a_client_that_is_not_sampled_is_not_traced_but_counted(proxy, upstream, collector):
    up = await upstream()
    running = await proxy(up.url, traced(collector))
    await complete(running, extra_headers={"traceparent": TRACEPARENT[:-1] + "0"})
    await complete(running)
    spans = await collector.wait_for(3)
    assert len(spans) == 3
    assert up.calls[0].header("traceparent").endswith("-00")
    assert len(await running.turns(2)) == 2


async def test_genai_attributes_are_on_genai_spans_only(proxy, upstream, collector):
    running = await proxy((await upstream()).url, traced(collector))
    await complete(running)
    await streamed(running)
    async with running.client() as client:
        with pytest.raises(openai.APIStatusError):
            await client.get("/other", cast_to=object)
    for span in await collector.wait_for(8):
        if not span.name.startswith("chat"):
            assert not [name for name in span.attributes if name.startswith("gen_ai.")], span


async def test_other_endpoints_are_a_server_span_and_a_client_span(proxy, upstream, collector):
    async def script(call):
        await call.answer(b'{"object":"list","data":[]}')

    running = await proxy((await upstream(script)).url, traced(collector))
    async with running.client() as client:
        await client.models.list()
    server, chat_span, (attempt,), _ = by_kind(await collector.wait_for(2))
    assert server.attributes["http.route"] == "/v1/models"
    assert chat_span is None
    assert attempt.parent_id == server.span_id


async def test_the_usage_of_other_endpoints_is_told_where_a_plugin_asks_for_it(
    proxy, upstream, collector
):
    limits = '[[plugins]]\nuse = "rate_limit"\n[[plugins.limits]]\nname = "x"\ntokens = 100\n'
    answer = b'{"model":"e","usage":{"prompt_tokens":9,"total_tokens":9}}'
    up = await upstream(lambda call: call.answer(answer))
    running = await proxy(up.url, traced(collector, 'telemetry.plugin_spans = "all"\n' + limits))
    await fetch(running.base_url, "POST", "/v1/rerank", body=b"{}")
    server, chat_span, (attempt,), (limit,) = by_kind(await collector.wait_for(3))
    assert chat_span is None
    assert server.attributes["dragoman.usage.input_tokens"] == 9
    assert server.attributes["dragoman.plugins"] == ["rate_limit:pass"]
    assert {attempt.parent_id, limit.parent_id} == {server.span_id}


async def test_health_and_metrics_are_not_traced(proxy, upstream, collector):
    running = await proxy((await upstream()).url, traced(collector))
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/readyz", "/metrics"):
            async with session.get(running.admin_url + path) as response:
                assert response.status == 200
    await complete(running)
    assert len(await collector.wait_for(3)) == 3


# ---- streams


@pytest.mark.parametrize("asked", [True, False])
async def test_a_stream_has_its_usage_whether_the_client_asked_or_not(
    proxy, upstream, collector, asked
):
    running = await proxy((await upstream()).url, traced(collector))
    options = {"stream_options": {"include_usage": True}} if asked else {}
    seen = await streamed(running, **options)
    assert bool(seen[-1].usage) == asked
    server, chat_span, _, _ = by_kind(await collector.wait_for(3))
    attributes = chat_span.attributes
    assert attributes["gen_ai.usage.input_tokens"] == 9
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < 5
    assert server.attributes["dragoman.stream"] is True


async def test_the_spans_of_a_stream_last_until_its_last_chunk(proxy, upstream, collector):
    async def script(call):
        events = chunks("one two three", call.json)
        await call.start_stream()
        for event in events[:2]:
            await call.chunk(event)
        await asyncio.sleep(0.3)
        await call.chunk(b"".join(events[2:]))
        await call.end_chunks()

    running = await proxy((await upstream(script)).url, traced(collector))
    await streamed(running)
    server, chat_span, (attempt,), _ = by_kind(await collector.wait_for(3))
    for span in (server, chat_span, attempt):
        assert span.end - span.start > 300e6


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_that_the_upstream_does_not_report_is_counted_and_marked(
    proxy, upstream, collector, stream
):
    async def script(call):
        if stream:
            await call.start_stream()
            for event in chunks("Hello there", {}):
                await call.chunk(event)
            await call.end_chunks()
        else:
            await call.answer(completion("Hello there", None))

    running = await proxy((await upstream(script)).url, traced(collector))
    await (streamed if stream else complete)(running)
    _, chat_span, _, _ = by_kind(await collector.wait_for(3))
    attributes = chat_span.attributes
    assert attributes["dragoman.usage.source"] == "estimated"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["gen_ai.usage.output_tokens"] == 2


async def test_estimates_can_be_switched_off(proxy, upstream, collector):
    async def script(call):
        await call.answer(completion("Hello there", None))

    more = "telemetry.estimate_usage = false"
    running = await proxy((await upstream(script)).url, traced(collector, more))
    await complete(running)
    _, chat_span, _, _ = by_kind(await collector.wait_for(3))
    assert chat_span.attributes["dragoman.usage.source"] == "none"
    assert "gen_ai.usage.input_tokens" not in chat_span.attributes


async def test_cached_and_reasoning_tokens_are_told(proxy, upstream, collector):
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }

    async def script(call):
        body = msgspec.json.decode(completion("x"))
        await call.answer(msgspec.json.encode({**body, "usage": usage}))

    running = await proxy((await upstream(script)).url, traced(collector))
    await complete(running)
    _, chat_span, _, _ = by_kind(await collector.wait_for(3))
    assert chat_span.attributes["gen_ai.usage.cache_read.input_tokens"] == 64
    assert chat_span.attributes["gen_ai.usage.reasoning.output_tokens"] == 40


# ---- failures


async def test_a_client_that_leaves_ends_the_spans_and_its_tokens_are_estimated(
    proxy, upstream, collector
):
    async def script(call):
        await call.start_stream()
        for event in chunks("one two three", call.json)[:3]:
            await call.chunk(event)
        await call.wait_closed()

    running = await proxy((await upstream(script)).url, traced(collector))
    async with running.client() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True
        )
        await anext(stream)
        await anext(stream)
        await stream.close()
    server, chat_span, (attempt,), _ = by_kind(await collector.wait_for(3))
    assert chat_span.attributes["error.type"] == "client_disconnected"
    assert chat_span.attributes["dragoman.usage.source"] == "estimated"
    assert chat_span.attributes["gen_ai.usage.output_tokens"] >= 1
    assert attempt.attributes["error.type"] == "client_disconnected"
    assert server.status == 0
    assert server.attributes["http.response.status_code"] == 499
    assert server.attributes["dragoman.client.disconnected"] is True
    assert (await running.turns())[0]["termination"] == "client_closed"


async def test_a_retry_is_a_second_attempt_of_one_operation(proxy, upstream, collector):
    async def script(call):
        if len(up.calls) == 1:
            await call.answer(
                b'{"error":{}}', status="429 Too Many", headers=(("retry-after-ms", "1"),)
            )
        else:
            await call.chat()

    up = await upstream(script)
    running = await proxy(up.url, traced(collector, "upstream.retries = 1"))
    await complete(running)
    _, chat_span, attempts, _ = by_kind(await collector.wait_for(4))
    assert chat_span.status == 0
    assert [a.status for a in attempts] == [2, 0]
    assert [a.attributes["http.response.status_code"] for a in attempts] == [429, 200]
    assert [a.attributes.get("http.request.resend_count") for a in attempts] == [None, 1]


@pytest.mark.parametrize(
    ("status", "code", "error_type", "server_status"),
    [
        ("404 Not Found", "model_not_found", "model_not_found", 0),
        ("400 Bad Request", "never_heard_of", "400", 0),
        ("500 Internal Server Error", "server_error", "server_error", 2),
    ],
)
async def test_an_error_of_the_upstream_is_an_error_of_the_chat(
    proxy, upstream, collector, status, code, error_type, server_status
):
    async def script(call):
        await call.answer(b'{"error":{"code":"%b"}}' % code.encode(), status=status)

    running = await proxy((await upstream(script)).url, traced(collector))
    with pytest.raises(openai.APIStatusError):
        await complete(running)
    server, chat_span, (attempt,), _ = by_kind(await collector.wait_for(3))
    assert (chat_span.status, chat_span.attributes["error.type"]) == (2, error_type)
    assert attempt.status == 2
    assert server.status == server_status


async def test_an_upstream_that_cannot_be_reached_is_an_error_on_all_spans(proxy, collector):
    running = await proxy("http://127.0.0.1:9/v1", traced(collector))
    with pytest.raises(openai.InternalServerError):
        await complete(running)
    server, chat_span, attempts, _ = by_kind(await collector.wait_for(4))
    assert len(attempts) == 2
    assert {s.attributes["error.type"] for s in (server, chat_span, *attempts)} == {
        "upstream_unreachable"
    }
    assert server.status == chat_span.status == 2
