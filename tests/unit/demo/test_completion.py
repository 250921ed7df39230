"""The real client reads completions of the embedded upstream in both forms."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import BaseModel

from proxy.demo.upstream import tokenizer

MODEL = "gpt-4o-mini"
USER = {"role": "user", "content": "How is the weather in Paris, and what is the time in Rome?"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": CITY}}
    for name in ("get_weather", "get_time")
]


async def ask(client, **fields):
    return await client.chat.completions.create(model=MODEL, messages=[USER], **fields)


async def chunks(client, **fields):
    return [chunk async for chunk in await ask(client, stream=True, **fields)]


async def test_a_completion_is_what_the_real_api_would_send(client):
    answer = await ask(client)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.system_fingerprint == "fp_demo"
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.startswith("I am the demo model")


async def test_the_same_request_gets_the_same_id_and_another_gets_another(client):
    first, again, other = await ask(client), await ask(client), await ask(client, seed=1)
    assert first.id == again.id != other.id


async def test_a_stream_adds_up_to_the_completion(client):
    streamed = await chunks(client)
    whole = (await ask(client)).choices[0].message.content
    assert len(streamed) > 10
    assert streamed[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole
    assert [c.choices[0].finish_reason for c in streamed[:-1]] == [None] * (len(streamed) - 1)
    assert streamed[-1].choices[0].finish_reason == "stop"


async def test_usage_is_what_the_tokenizer_counts(client):
    answer = await ask(client)
    prompt = await tokenizer().count({"model": MODEL, "messages": [USER]})
    said = await tokenizer().count_text(answer.choices[0].message.content, MODEL)
    assert answer.usage.prompt_tokens == prompt.tokens
    assert answer.usage.completion_tokens == said
    assert answer.usage.total_tokens == prompt.tokens + said


async def test_a_stream_tells_its_usage_only_if_it_is_asked(client):
    told = await chunks(client, stream_options={"include_usage": True})
    assert told[-1].choices == []
    assert told[-1].usage == (await ask(client)).usage
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in told[:-1])
    assert all("usage" not in chunk.model_fields_set for chunk in await chunks(client))


async def test_choices_differ_and_their_tokens_add_up(client):
    answer = await ask(client, n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    counts = [await tokenizer().count_text(text, MODEL) for text in texts]
    assert answer.usage.completion_tokens == sum(counts)


async def test_streamed_choices_take_turns_and_each_is_whole(client):
    streamed = [chunk.choices[0] for chunk in await chunks(client, n=2)]
    assert [choice.index for choice in streamed[:4]] == [0, 1, 0, 1]
    joined = ["", ""]
    for choice in streamed:
        joined[choice.index] += choice.delta.content or ""
    assert joined == [c.message.content for c in (await ask(client, n=2)).choices]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_is_kept_and_named(client, limit):
    answer = await ask(client, **{limit: 7})
    assert answer.choices[0].finish_reason == "length"
    assert 0 < answer.usage.completion_tokens <= 7


async def test_a_limit_that_is_not_reached_changes_nothing(client):
    assert (await ask(client, max_completion_tokens=500)).choices[0].finish_reason == "stop"


async def test_a_stop_sequence_ends_the_answer_before_it(client):
    answer = await ask(client, stop=["nowhere", " understand"])
    assert answer.choices[0].message.content == "I am the demo model and"
    assert answer.choices[0].finish_reason == "stop"


async def test_logprobs_have_an_entry_for_each_piece_of_the_text_in_both_forms(client):
    wanted = {"logprobs": True, "top_logprobs": 2}
    entries = (await ask(client, **wanted)).choices[0].logprobs.content
    assert "".join(entry.token for entry in entries).startswith("I am the demo model")
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in entries)
    streamed = [c.choices[0].logprobs for c in await chunks(client, **wanted)]
    assert [entry for each in streamed if each for entry in each.content] == entries


async def test_without_logprobs_there_are_none(client):
    assert (await ask(client)).choices[0].logprobs is None


async def test_parallel_calls_of_tools_are_the_same_in_both_forms(client):
    choice = (await ask(client, tools=TOOLS)).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "get_time"]
    manager = client.chat.completions.stream(model=MODEL, messages=[USER], tools=TOOLS)
    async with manager as events:
        done = [
            event async for event in events if event.type == "tool_calls.function.arguments.done"
        ]
        streamed = (await events.get_final_completion()).choices[0].message.tool_calls
    assert [event.arguments for event in done] == ['{"city":"Paris"}', '{"city":"Rome"}']
    assert [call.id for call in streamed] == [call.id for call in choice.message.tool_calls]


async def test_the_results_of_tools_are_answered(client):
    calling = (await ask(client, tools=TOOLS)).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "22 °C"} for call in calling.tool_calls
    ]
    messages = [USER, calling.model_dump(exclude_none=True), *results]
    answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert "A tool returned: “22 °C”." in answer.choices[0].message.content


async def test_structured_output_is_parsed_by_the_client(client):
    class Forecast(BaseModel):
        city: str
        degrees: float

    answer = await client.chat.completions.parse(
        model=MODEL, messages=[USER], response_format=Forecast
    )
    assert answer.choices[0].message.parsed == Forecast(city="Paris", degrees=1)


async def test_a_json_object_is_json(client):
    answer = await ask(client, response_format={"type": "json_object"})
    assert msgspec.json.decode(answer.choices[0].message.content)["messages"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_left_out_on_demand(client, stream):
    fields = {"stream_options": {"include_usage": True}} if stream else {}
    demand = {"demo": {"usage": False}}
    if stream:
        answers = await chunks(client, extra_body=demand, **fields)
    else:
        answers = [await ask(client, extra_body=demand)]
    assert all(answer.usage is None for answer in answers)
