"""What plugins leave on a trace, what is kept from it, and what settings change about it."""

from __future__ import annotations

import msgspec
import openai
import pytest

from tests.support.tracing import TRACEPARENT, by_kind, complete, streamed, traced
from tests.support.upstream import chat, completion

# ---- plugins

PLUGIN = """
from proxy.plugin import ContentRejected, Plugin, answer, note

class Acts(Plugin):
    async def handle(self, request, call_next):
        word = request.messages[0]["content"]
        with self.services.tracer.start_as_current_span("own work"):
            pass
        if word == "answer":
            note(cache_hit=True)
            return answer(request, "Local.")
        if word == "reject":
            raise ContentRejected("no", param="messages")
        if word == "fail":
            raise ZeroDivisionError
        if word == "shorten":
            return await call_next(request.replace(messages=request.messages[-1:]))
        return await call_next(request)
"""


async def acting(proxy, upstream, collector, tmp_path, more=""):
    (tmp_path / "acts.py").write_text(PLUGIN)
    table = f'\n[[plugins]]\nuse = "./acts.py:Acts"\nname = "acts"\n{more}'
    return await proxy((await upstream()).url, traced(collector, table))


def asking(word):
    return [{"role": "user", "content": word}]


async def test_a_local_answer_has_no_client_span(proxy, upstream, collector, tmp_path):
    running = await acting(proxy, upstream, collector, tmp_path)
    await complete(running, messages=asking("answer"))
    server, chat_span, attempts, (plugin,) = by_kind(await collector.wait_for(3))
    assert chat_span is None
    assert attempts == []
    assert plugin.parent_id == server.span_id
    assert plugin.attributes["dragoman.plugin.outcome"] == "respond"
    assert plugin.attributes["dragoman.cache.hit"] is True
    assert server.attributes["dragoman.response.source"] == "acts"


async def test_a_refusal_is_no_error(proxy, upstream, collector, tmp_path):
    running = await acting(proxy, upstream, collector, tmp_path)
    with pytest.raises(openai.BadRequestError):
        await complete(running, messages=asking("reject"))
    server, _, _, (plugin,) = by_kind(await collector.wait_for(3))
    assert plugin.attributes["dragoman.plugin.outcome"] == "reject"
    assert (plugin.status, server.status) == (0, 0)
    assert plugin.events == []


async def test_a_failure_is_an_error_and_its_on_error_is_told(proxy, upstream, collector, tmp_path):
    running = await acting(proxy, upstream, collector, tmp_path, 'on_error = "open"')
    await complete(running, messages=asking("fail"))
    server, _, _, (plugin,) = by_kind(await collector.wait_for(5))
    assert (plugin.status, server.status) == (2, 0)
    assert plugin.attributes["error.type"] == "ZeroDivisionError"
    assert plugin.attributes["dragoman.plugin.on_error"] == "open"
    assert "exception.message" not in plugin.attributes


async def test_what_a_plugin_saved_is_told_in_tokens(proxy, upstream, collector, tmp_path):
    running = await acting(proxy, upstream, collector, tmp_path)
    long = [{"role": "user", "content": "shorten"}, *asking("a long story " * 50), *asking("end")]
    await complete(running, messages=long)
    server, _, _, (plugin,) = by_kind(await collector.wait_for(5))
    attributes = plugin.attributes
    assert attributes["dragoman.messages.before"] == 3
    assert attributes["dragoman.messages.after"] == 1
    saved = attributes["dragoman.tokens.before"] - attributes["dragoman.tokens.after"]
    assert saved == attributes["dragoman.tokens.saved"] > 100
    assert server.attributes["dragoman.tokens.saved"] == saved
    assert (await running.turns())[0]["saved_tokens"] == saved


async def test_a_plugin_that_passed_leaves_a_mark_and_no_span(proxy, upstream, collector, tmp_path):
    (tmp_path / "passes.py").write_text("from proxy.plugin import Plugin\nclass P(Plugin): ...\n")
    table = '\n[[plugins]]\nuse = "./passes.py:P"\nname = "passes"'
    running = await proxy((await upstream()).url, traced(collector, table))
    await complete(running)
    server, _, _, plugins = by_kind(await collector.wait_for(3))
    assert server.attributes["dragoman.plugins"] == ["passes:pass"]
    assert plugins == []


async def test_spans_of_a_plugins_own_are_below_its_span(proxy, upstream, collector, tmp_path):
    more = "telemetry.plugin_spans = 'all'\n"
    (tmp_path / "acts.py").write_text(PLUGIN)
    table = '\n[[plugins]]\nuse = "./acts.py:Acts"\nname = "acts"\n'
    running = await proxy((await upstream()).url, traced(collector, more + table))
    await complete(running)
    spans = await collector.wait_for(5)
    own = next(s for s in spans if s.name == "own work")
    plugin = next(s for s in spans if s.name == "plugin acts")
    assert own.parent_id == plugin.span_id


# ---- content and secrets


async def test_no_content_and_no_key_is_on_any_span(proxy, upstream, collector, tmp_path):
    running = await acting(proxy, upstream, collector, tmp_path, 'on_error = "open"')
    for word in ("PROMPT-CANARY", "fail", "answer"):
        await complete(running, messages=asking(word))
    await streamed(running, messages=asking("PROMPT-CANARY"))
    spans = await collector.wait_for(3)
    told = repr(spans)
    for secret in ("PROMPT-CANARY", "Hello.", "sk-test", "Bearer"):
        assert secret not in told


@pytest.mark.parametrize("stream", [True, False])
async def test_content_is_captured_where_it_is_asked_for(proxy, upstream, collector, stream):
    more = "telemetry.capture_content = true\ntelemetry.content_max_chars = 6"
    running = await proxy((await upstream()).url, traced(collector, more))
    messages = [
        {"role": "system", "content": "Be brief, please."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url"}]},
    ]
    await (streamed if stream else complete)(running, messages=messages)
    _, chat_span, _, _ = by_kind(await collector.wait_for(3))
    assert msgspec.json.decode(chat_span.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be bri"}]},
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}, {"type": "image_url"}]},
    ]
    assert msgspec.json.decode(chat_span.attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Hello."}],
            "finish_reason": "stop",
        }
    ]


# ---- switches


async def test_a_share_of_traces_can_be_kept_and_all_that_failed(proxy, upstream, collector):
    async def script(call):
        if "fail" in call.json["messages"][0]["content"]:
            await call.answer(b"{}", status="500 X")
        else:
            await chat(call)

    more = "telemetry.tail_sample.ratio = 0.0"
    running = await proxy((await upstream(script)).url, traced(collector, more))
    for _ in range(3):
        await complete(running)
    with pytest.raises(openai.InternalServerError):
        await complete(running, messages=asking("fail"))
    await running.stop()
    assert len(collector.spans) == 3
    assert {s.attributes.get("http.response.status_code", 500) for s in collector.spans} == {500}


async def test_the_standard_variables_stand_above_the_settings(
    proxy, upstream, collector, monkeypatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    running = await proxy((await upstream()).url, 'telemetry.endpoint = "http://127.0.0.1:9"')
    await complete(running)
    resource = (await collector.wait_for(3))[0].resource
    assert resource["service.name"] == "shop"
    assert resource["deployment.environment.name"] == "prod"


@pytest.mark.parametrize(
    "variable", [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")]
)
async def test_traces_can_be_switched_off_from_outside(
    proxy, upstream, collector, monkeypatch, variable
):
    monkeypatch.setenv(*variable)
    running = await proxy((await upstream()).url, traced(collector))
    await complete(running)
    assert (await running.turns())[0]["status"] == 200
    await running.stop()
    assert collector.spans == []


async def test_a_session_is_on_the_trace_and_in_the_log(proxy, upstream, collector):
    running = await proxy((await upstream()).url, traced(collector))
    await complete(running, extra_headers={"x-dragoman-session": "chat-7"})
    server, chat_span, _, _ = by_kind(await collector.wait_for(3))
    assert server.attributes["session.id"] == "chat-7"
    assert chat_span.attributes["gen_ai.conversation.id"] == "chat-7"
    turn = (await running.turns())[0]
    assert (turn["session"], turn["trace_id"]) == ("chat-7", server.trace_id)


async def test_next_conventions_rename_only_what_they_rename(proxy, upstream, collector):
    async def script(call):
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cache_write_tokens": 5},
        }
        body = msgspec.json.decode(completion("x"))
        await call.answer(msgspec.json.encode({**body, "usage": usage}))

    for semconv, name in (("1.41", "cache_creation"), ("next", "cache_write")):
        collector.spans.clear()
        more = f'telemetry.semconv = "{semconv}"'
        running = await proxy((await upstream(script)).url, traced(collector, more))
        await complete(running)
        _, chat_span, _, _ = by_kind(await collector.wait_for(3))
        assert chat_span.attributes[f"gen_ai.usage.{name}.input_tokens"] == 5


async def test_usage_is_not_counted_twice_where_the_client_is_traced_too(
    proxy, upstream, collector
):
    more = 'telemetry.genai_usage = "root_only"'
    running = await proxy((await upstream()).url, traced(collector, more))
    await complete(running, extra_headers={"traceparent": TRACEPARENT})
    _, chat_span, _, _ = by_kind(await collector.wait_for(3))
    assert chat_span.attributes["dragoman.usage.input_tokens"] == 9
    assert "gen_ai.usage.input_tokens" not in chat_span.attributes


async def test_the_query_and_the_password_of_a_url_are_on_no_span(proxy, upstream, collector):
    running = await proxy((await upstream()).url, traced(collector))
    await complete(running, extra_query={"key": "QUERY-CANARY"})
    assert "QUERY-CANARY" not in repr(await collector.wait_for(3))
