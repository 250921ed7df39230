"""Chat completions with the real openai client: the proxy gives it what the upstream would.

Each test does the same twice, at the upstream and through the proxy.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.both import Both
from tests.support.like_openai import CALLS, LIMITS, MESSAGES, speak

HI: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
COPY = """
from proxy.plugin import Plugin

class Copy(Plugin):
    async def handle(self, request, call_next):
        return (await call_next(request.replace())).map_text(lambda text: text)
"""


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(params=["no plugins", "a plugin that copies"])
async def both(request, plain, upstream, tmp_path):
    (tmp_path / "copy.py").write_text(COPY)
    table = '[[plugins]]\nuse = "./copy.py:Copy"\n' if "copies" in request.param else ""
    up = await upstream(speak)
    return Both(up.url, (await plain(up.url, table)).base_url)


MODELS = pytest.mark.parametrize("model", MESSAGES)


@MODELS
async def test_an_answer_in_one_piece(both, model):
    answer = await both.ask(
        lambda client: client.chat.completions.create(model=model, messages=HI, seed=2**63)
    )
    assert len(answer.choices) == len(MESSAGES[model])
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


@MODELS
@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream(both, model, usage):
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}

    async def use(client):
        stream = await client.chat.completions.create(
            model=model, messages=HI, stream=True, **options
        )
        return [chunk.model_dump(exclude_unset=True) async for chunk in stream]

    chunks = await both.ask(use)
    assert all("usage" in chunk for chunk in chunks) == usage
    assert all(chunk["choices"] for chunk in chunks) != usage


@MODELS
async def test_a_synchronous_client_and_its_stream(both, model):
    def use(client):
        answer = client.chat.completions.create(model=model, messages=HI)
        with client.chat.completions.create(model=model, messages=HI, stream=True) as stream:
            return answer, [chunk.model_dump() for chunk in stream]

    answer, chunks = await both.ask_sync(use)
    assert answer.choices[0].finish_reason
    assert chunks


@pytest.mark.parametrize("model", [model for model in MESSAGES if model != "audio"])
async def test_the_stream_helper(both, model):
    async def use(client):
        async with client.chat.completions.stream(model=model, messages=HI) as stream:
            events = [event.model_dump() async for event in stream]
            return events, (await stream.get_final_completion()).model_dump()

    events, final = await both.ask(use)
    assert {"chunk"} < {event["type"] for event in events}
    said = [choice["message"] for choice in final["choices"]]
    assert [m["content"] for m in said] == [m.get("content") for m in MESSAGES[model]]


async def test_parallel_tool_calls_come_in_fragments_and_in_their_order(both):
    async def use(client):
        async with client.chat.completions.stream(
            model="tools", messages=HI, tools=[TOOL]
        ) as stream:
            done = [
                (event.index, event.name, event.parsed_arguments)
                async for event in stream
                if event.type == "tool_calls.function.arguments.done"
            ]
            return done, (await stream.get_final_completion()).choices[0].message.tool_calls

    done, calls = await both.ask(use)
    assert done == [(0, "weather", {"city": "Paris"}), (1, "weather", {"city": "Zürich 🎉"})]
    assert [call.id for call in calls] == [call["id"] for call in CALLS]


async def test_parse_reads_what_pydantic_describes(both):
    async def use(client):
        answer = await client.chat.completions.parse(
            model="json", messages=HI, response_format=Person
        )
        return answer.choices[0].message.parsed

    assert await both.ask(use) == Person(name="Ada", age=36)


async def test_a_stream_is_parsed_while_it_comes(both):
    async def use(client):
        async with client.chat.completions.stream(
            model="json", messages=HI, response_format=Person
        ) as stream:
            seen = [event.parsed async for event in stream if event.type == "content.delta"]
            return seen, (await stream.get_final_completion()).choices[0].message.parsed

    seen, parsed = await both.ask(use)
    assert parsed == Person(name="Ada", age=36)
    assert seen.index({}) < seen.index({"name": "Ada"}) < seen.index({"name": "Ada", "age": 36})


async def test_a_refusal_is_no_answer(both):
    async def use(client):
        answer = await client.chat.completions.parse(
            model="refusal", messages=HI, response_format=Person
        )
        return answer.choices[0].message

    message = await both.ask(use)
    assert (message.parsed, message.refusal) == (None, "I cannot help with that.")


async def test_log_probabilities_and_vendors_fields_are_kept(both):
    async def use(client):
        logprobs = await client.chat.completions.create(model="logprobs", messages=HI)
        thought = await client.chat.completions.create(model="reasoning", messages=HI)
        return logprobs.choices[0].logprobs.content[1].logprob, thought.choices[0].message

    logprob, message = await both.ask(use)
    assert logprob == -1.5e-05
    assert message.reasoning_content == "2 + 2 … 🧠"
    assert message.vendor == {"x": 1.0}


async def test_a_raw_response_has_the_upstreams_headers(both):
    async def use(client):
        raw = await client.chat.completions.with_raw_response.create(model="plain", messages=HI)
        return raw.parse(), raw.content, raw.request_id, [raw.headers[name] for name, _ in LIMITS]

    answer, _, request_id, limits = await both.ask(use)
    assert request_id == answer._request_id == "req_like_openai"
    assert limits == [value for _, value in LIMITS]


async def test_a_streaming_response_is_read_line_by_line(both):
    async def use(client):
        create = client.chat.completions.with_streaming_response.create
        async with create(model="plain", messages=HI, stream=True) as response:
            return response.headers["content-type"], [line async for line in response.iter_lines()]

    kind, lines = await both.ask(use)
    assert kind == "text/event-stream; charset=utf-8"
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"


async def test_a_stream_that_is_left_early_leaves_the_client_usable(both):
    async def use(client):
        stream = await client.chat.completions.create(model="plain", messages=HI, stream=True)
        first = await anext(aiter(stream))
        await stream.close()
        again = await client.chat.completions.create(model="plain", messages=HI)
        return first, again

    assert (await both.ask(use))[1].choices[0].message.content == MESSAGES["plain"][0]["content"]
