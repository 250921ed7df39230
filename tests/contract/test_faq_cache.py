"""Questions that are answered without the upstream, and those that must not be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from tests.support.raw import ask_chat, metric

FAQ = """
[[faq]]
id = "refund"
question = "How do I get a refund?"
aliases = ["怎么退款？"]
answer = { en = "Within 14 days.", zh = "十四天之内。", de = "In 14 Tagen." }
negatives = ["How do I get a refund for a gift?"]

[[faq]]
id = "price-ann"
question = "What does it cost?"
answer = "Nothing, Ann."
scope = { callers = ["ann"] }

[[faq]]
id = "price-bob"
question = "What does it cost?"
answer = "Ten, Bob."
scope = { callers = ["bob"] }

[[faq]]
id = "model"
question = "Which model are you?"
answer = "The big one."
scope = { models = ["gpt-4o"] }

[[faq]]
id = "shop"
question = "When do you open?"
answer = "At nine."
scope = { system = "(?i)shop" }
"""
QUESTION = "How can I get the refund, please?"


def keys(*names: str) -> str:
    hashes = {name: hashlib.sha256(f"sk-{name}".encode()).hexdigest() for name in names}
    return "".join(f'[[keys]]\nname = "{n}"\nsha256 = "{h}"\n' for n, h in hashes.items())


@pytest.fixture
def answering(proxy, upstream, tmp_path):
    """Start an upstream that says "Hello." and a proxy with this FAQ in front of it."""

    async def start(options: str = "", faq: str = FAQ, more: str = ""):
        file = tmp_path / "faq.toml"
        file.write_text(faq)
        up = await upstream()
        table = f"[[plugins]]\nuse = 'faq_cache'\nfile = '{file}'\n"
        return up, await proxy(up.url, f"{more}{table}{options}"), file

    return start


async def say(running, question: Any, key: str = "sk-ann", **fields):
    """Ask; the answer with its headers."""
    messages = question if isinstance(question, list) else [{"role": "user", "content": question}]
    fields = {"model": "gpt-4o-mini", "messages": messages, **fields}
    async with running.client(api_key=key) as client:
        return await client.chat.completions.with_raw_response.create(**fields)


async def text(running, question: Any, key: str = "sk-ann", **fields) -> str:
    return (await say(running, question, key, **fields)).parse().choices[0].message.content


async def test_an_answer_costs_no_call(answering):
    up, running, _ = await answering()
    answer = await say(running, "How do I get a refund?")
    completion = answer.parse()
    assert completion.choices[0].message.content == "Within 14 days."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "gpt-4o-mini"
    assert completion.usage.total_tokens == 19
    assert answer.headers["x-dragoman-cache"] == "hit;tier=exact;id=refund"
    assert up.calls == []
    assert await metric(running, "dragoman_faq_cache_tokens_saved_total") == 19
    assert 0 < await metric(running, "dragoman_faq_cache_saved_usd_total") < 0.001


async def test_the_lexical_tier_tells_its_score(answering):
    up, running, _ = await answering()
    answer = await say(running, QUESTION)
    assert answer.headers["x-dragoman-cache"].startswith("hit;tier=lexical;id=refund;score=0.")
    assert up.calls == []


@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_is_whole(answering, usage):
    up, running, _ = await answering()
    async with running.client() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": usage},
        )
        chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == "Within 14 days."
    assert choices[-1].finish_reason == "stop"
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [5] * usage
    assert up.calls == []
    raw = await ask_chat(running, QUESTION, stream=True)
    assert raw.events[-1] == b"[DONE]"


@pytest.mark.parametrize(
    ("question", "headers", "said"),
    [
        ("怎样才能退款呢？", {}, "十四天之内。"),
        ("請問怎麼退款", {}, "十四天之内。"),
        (QUESTION, {"x-dragoman-locale": "de-AT"}, "In 14 Tagen."),
        (QUESTION, {"x-dragoman-locale": "fr"}, "Within 14 days."),
    ],
)
async def test_the_answer_is_in_the_language_of_the_question(answering, question, headers, said):
    _, running, _ = await answering()
    assert await text(running, question, extra_headers=headers) == said


USER = {"role": "user", "content": "How do I get a refund?"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("header", {"extra_headers": {"x-dragoman-faq": "off"}}),
        ("no_cache", {"extra_headers": {"Cache-Control": "max-age=0, no-cache"}}),
        ("n", {"n": 2}),
        ("tools", {"tools": [TOOL]}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("logprobs", {"logprobs": True}),
        ("prediction", {"prediction": {"type": "content", "content": "x"}}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("continuation", {"extra_body": {"previous_response_id": "r1"}}),
        ("earlier_turns", {"messages": [USER, {"role": "assistant", "content": "Hm."}, USER]}),
        ("no_question", {"messages": [USER, {"role": "assistant", "content": "Wi"}]}),
        (
            "tools",
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "1",
                                "type": "function",
                                "function": {"name": "f", "arguments": ""},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "x"},
                    USER,
                ]
            },
        ),
        (
            "not_text",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "How do I get a refund?"},
                            {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}},
                        ],
                    }
                ]
            },
        ),
    ],
)
async def test_what_wants_more_than_text_goes_upstream(answering, reason, fields):
    up, running, _ = await answering()
    await say(running, "How do I get a refund?", **fields)
    assert len(up.calls) == 1
    labels = f'{{decision="bypass",reason="{reason}"}}'
    assert await metric(running, f"dragoman_faq_cache_requests_total{labels}") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2, "seed": 1, "max_tokens": 1, "n": 1},
        {"tools": [TOOL], "tool_choice": "none"},
        {"response_format": {"type": "text"}, "modalities": ["text"]},
        {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": USER["content"]}]}]},
    ],
)
async def test_what_does_not_change_the_answer_is_answered(answering, fields):
    up, running, _ = await answering()
    assert await text(running, "How do I get a refund?", **fields) == "Within 14 days."
    assert up.calls == []


async def test_later_questions_that_stand_alone(answering):
    up, running, _ = await answering("first_turn_only = false")
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert await text(running, [*chat, USER]) == "Within 14 days."
    assert await text(running, [*chat, {"role": "user", "content": "When is it?"}]) == "Hello."
    assert len(up.calls) == 1


@pytest.mark.parametrize(
    "question",
    [
        "How do I get a refund for a gift?",
        "How do I not get a refund?",
        "How do you get a refund?",
        "Why do I get a refund?",
        "How do I get 2 refunds?",
        "怎么不退款？",
    ],
)
async def test_a_question_that_only_looks_alike_goes_upstream(answering, question):
    up, running, _ = await answering()
    assert await text(running, question) == "Hello."
    assert len(up.calls) == 1


async def test_tenants_get_their_own_answers(answering):
    more = 'upstream.api_key = "sk-up"\n' + keys("ann", "bob", "eve")
    up, running, _ = await answering(more=more)
    assert await text(running, "What does it cost?", "sk-ann") == "Nothing, Ann."
    assert await text(running, "What does it cost?", "sk-bob") == "Ten, Bob."
    assert await text(running, "What does it cost?", "sk-eve") == "Hello."
    assert len(up.calls) == 1


async def test_models_and_system_prompts_are_scopes(answering):
    up, running, _ = await answering()
    assert await text(running, "Which model are you?", model="gpt-4o") == "The big one."
    assert await text(running, "Which model are you?") == "Hello."
    opens = {"role": "user", "content": "When do you open?"}
    assert (
        await text(running, [{"role": "system", "content": "You are a shop."}, opens]) == "At nine."
    )
    assert (
        await text(running, [{"role": "system", "content": "You are a bank."}, opens]) == "Hello."
    )
    assert await text(running, [opens]) == "Hello."
    assert len(up.calls) == 3


async def test_near_hits_are_counted_and_kept_without_their_text(answering):
    _, running, _ = await answering()
    await say(running, "How do I not get a refund?")

    name = 'dragoman_faq_cache_near_total{veto="negation"}'
    async with asyncio.timeout(5):
        while await metric(running, name) != 1:
            await asyncio.sleep(0.05)


async def test_shadow_mode_answers_nothing_and_saves_nothing(answering):
    up, running, _ = await answering('mode = "shadow"')
    assert await text(running, QUESTION) == "Hello."
    assert len(up.calls) == 1
    hits = 'dragoman_faq_cache_requests_total{decision="hit",reason="lexical"}'
    assert await metric(running, hits) == 1
    assert not await metric(running, "dragoman_faq_cache_tokens_saved_total")


async def test_no_span_of_a_call_that_was_not_made(answering):
    _, running, _ = await answering()
    await say(running, QUESTION)
    (turn,) = await running.turns()
    assert turn["source"] == "faq_cache"
