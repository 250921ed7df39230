"""What Prometheus scrapes, and the turn log."""

from __future__ import annotations

import asyncio
import os
import re

import aiohttp
import openai
import pytest

from tests.support.upstream import chunks

MESSAGES = [{"role": "user", "content": "Hi"}]


async def scrape(running, accept="text/plain"):
    """The samples by their name with labels, as floats."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{running.admin_url}/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        text = await response.text()
    return text, {
        match[1]: float(match[2])
        for match in re.finditer(r"^([a-z_]+(?:\{.*?\})?) (\S+)", text, re.MULTILINE)
    }


async def chat_or_list(call):
    """The script of an upstream that has more than one endpoint."""
    await (call.chat() if call.target.endswith("completions") else call.answer())


async def scrape_until(running, name):
    """Scrape until a sample is there."""
    async with asyncio.timeout(10):
        while name not in (samples := (await scrape(running))[1]):
            await asyncio.sleep(0.02)
    return samples


async def complete(running, **options):
    async with running.client() as client:
        answer = await client.chat.completions.create(
            **{"model": "gpt-4o-mini", "messages": MESSAGES, **options}
        )
        return [chunk async for chunk in answer] if options.get("stream") else answer


CHAT = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai"'
MINI = f'{CHAT},gen_ai_request_model="gpt-4o-mini"'


async def test_the_metrics_of_a_completion(proxy, upstream):
    running = await proxy((await upstream()).url)
    await complete(running)
    _, samples = await scrape(running)
    route = 'http_request_method="POST",http_route="/v1/chat/completions"'
    for name, value in {
        f'http_server_request_duration_seconds_count{{{route},http_response_status_code="200"}}': 1,
        f'gen_ai_server_request_duration_seconds_count{{error_type="",{MINI}}}': 1,
        f'gen_ai_client_operation_duration_seconds_count{{error_type="",{MINI}}}': 1,
        f'gen_ai_client_token_usage_sum{{{MINI},gen_ai_token_type="input"}}': 9,
        f'gen_ai_client_token_usage_sum{{{MINI},gen_ai_token_type="output"}}': 3,
        'dragoman_usage_source_total{source="upstream"}': 1,
        'dragoman_tokens_total{gen_ai_request_model="gpt-4o-mini",type="input"}': 9,
        'dragoman_tokens_total{gen_ai_request_model="gpt-4o-mini",type="output"}': 3,
        'dragoman_upstream_attempts_total{outcome="ok",upstream="openai"}': 1,
        'dragoman_overhead_duration_seconds_count{stream="false"}': 1,
        "http_server_active_requests": 0,
        "dragoman_body_bytes_in_flight": 0,
    }.items():
        assert samples.get(sorted_labels(name), samples.get(name)) == value, name


def sorted_labels(name):
    """The same sample with its labels in alphabetical order."""
    match = re.fullmatch(r"(\w+)\{(.*)\}", name)
    if match is None:
        return name
    return f"{match[1]}{{{','.join(sorted(match[2].split(',')))}}}"


async def test_the_metrics_of_a_stream(proxy, upstream):
    running = await proxy((await upstream()).url)
    await complete(running, stream=True)
    _, samples = await scrape(running)
    assert samples[f"gen_ai_server_time_to_first_token_seconds_count{{{MINI}}}"] == 1
    assert samples[f"gen_ai_server_time_per_output_token_seconds_count{{{MINI}}}"] == 1
    assert samples[f"gen_ai_client_operation_time_to_first_chunk_seconds_count{{{MINI}}}"] == 1


async def test_a_model_that_no_upstream_took_gets_no_series_of_its_own(proxy, upstream):
    async def script(call):
        await call.answer(b'{"error":{"code":"model_not_found"}}', status="404 Not Found")

    running = await proxy((await upstream(script)).url)
    for name in ("junk-1", "junk-2"):
        with pytest.raises(openai.NotFoundError):
            await complete(running, model=name)
    text, samples = await scrape(running)
    assert "junk" not in text
    labels = f'error_type="model_not_found",{CHAT},gen_ai_request_model="other"'
    assert samples[f"gen_ai_server_request_duration_seconds_count{{{labels}}}"] == 2


async def test_no_label_grows_with_what_clients_send(proxy, upstream):
    running = await proxy((await upstream(chat_or_list)).url)
    await complete(running, user="USER-CANARY", extra_headers={"x-dragoman-session": "S-CANARY"})
    async with running.client() as client:
        for path in ("/PATH-CANARY-1", "/models/PATH-CANARY-2", "/files/PATH-CANARY-3/content"):
            await client.get(path, cast_to=object)
    text, _ = await scrape(running)
    assert "CANARY" not in text
    assert "sk-test" not in text


async def test_an_exemplar_leads_from_a_metric_to_its_trace(proxy, upstream, collector):
    running = await proxy((await upstream()).url, f'telemetry.endpoint = "{collector.url}"')
    await complete(running)
    text, _ = await scrape(running, "application/openmetrics-text; version=1.0.0")
    server = next(s for s in await collector.wait_for(3) if s.kind == "SERVER")
    assert f'trace_id="{server.trace_id}"' in text


async def test_exported_spans_are_counted(proxy, upstream, collector):
    running = await proxy((await upstream()).url, f'telemetry.endpoint = "{collector.url}"')
    await complete(running)
    await collector.wait_for(3)
    name = 'dragoman_telemetry_spans_total{result="exported"}'
    assert (await scrape_until(running, name))[name] == 3


async def test_a_share_of_prompts_can_be_counted_to_compare(proxy, upstream):
    running = await proxy((await upstream()).url, "tokens.verify = 1.0")
    await complete(running)
    name = 'dragoman_token_count_error_count{exactness="exact",gen_ai_request_model="gpt-4o-mini"}'
    assert (await scrape_until(running, name))[name] == 1


# ---- the turn log


async def test_a_completion_is_one_line_with_every_field(proxy, upstream):
    running = await proxy((await upstream()).url)
    await complete(running, extra_headers={"x-request-id": "req_7", "x-dragoman-session": "s"})
    (turn,) = await running.turns()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", turn.pop("ts"))
    times = {name: turn.pop(name) for name in ("ttfc_ms", "total_ms", "overhead_ms")}
    assert 0 < times["overhead_ms"] < times["total_ms"]
    assert 0 < times["ttfc_ms"] <= times["total_ms"]
    assert len(turn.pop("caller")) == 32
    assert turn == {
        "request_id": "req_7",
        "trace_id": None,
        "span_id": None,
        "session": "s",
        "route": "/v1/chat/completions",
        "model": "gpt-4o-mini",
        "stream": False,
        "status": 200,
        "source": "upstream",
        "termination": "completed",
        "finish_reason": "stop",
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "usage_source": "upstream",
        "saved_tokens": 0,
        "plugins": [],
    }


async def test_other_endpoints_are_no_turns(proxy, upstream):
    running = await proxy((await upstream(chat_or_list)).url)
    async with running.client() as client:
        await client.get("/models", cast_to=object)
    await complete(running)
    (turn,) = await running.turns()
    assert turn["model"] == "gpt-4o-mini"


async def test_the_log_can_be_switched_off(proxy, upstream):
    running = await proxy((await upstream()).url, "telemetry.turn_log = false")
    await complete(running)
    with pytest.raises(AssertionError, match="only b''"):
        await running.turns(seconds=0.3)


async def test_a_reader_who_stops_reading_stops_no_request(proxy, upstream):
    async def script(call):
        await call.start_stream()
        await call.chunk(b"".join(chunks("Hi", call.json)))
        await call.end_chunks()

    running = await proxy((await upstream(script)).url)
    pipe = os.fstat(running._turn_log)  # nobody reads it from here on
    assert pipe.st_size == 0
    for _ in range(200):  # 200 lines are more than a pipe's 64 KiB
        await complete(running, stream=True)
    turns = await running.turns(200)
    assert len({turn["request_id"] for turn in turns}) == 200
