from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.tokens import Count, Tokenizer, VocabularyError, counter, vocabulary
from proxy.tokens.text import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.text import Vocabularies


def body(*contents: Any, model: str = "gpt-4o", **others: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content} for content in contents]
    return {"model": model, "messages": messages, **others}


LONG = "A word to the wise is enough. " * 1_000  # 8,000 tokens, and too much for the loop
HUGE = "x" * 100 + " words in their thousands" * 50_000


async def test_a_request_is_counted(tokenizer: Tokenizer) -> None:
    assert await tokenizer.count(body("hello world", "hi")) == Count(
        tokens=14,
        exactness="exact",
        messages=(6, 5),
        overhead=3,
        model="gpt-4o",
        text_tokens=3,
    )


async def test_the_worked_example_of_the_cookbook(tokenizer: Tokenizer) -> None:
    # https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
    messages = [
        {
            "role": "system",
            "content": "You are a helpful, pattern-following assistant that translates corporate "
            "jargon into plain English.",
        },
        {
            "role": "system",
            "name": "example_user",
            "content": "New synergies will help drive top-line growth.",
        },
        {
            "role": "system",
            "name": "example_assistant",
            "content": "Things working well together will increase revenue.",
        },
        {
            "role": "system",
            "name": "example_user",
            "content": "Let's circle back when we have more bandwidth to touch base on "
            "opportunities for increased leverage.",
        },
        {
            "role": "system",
            "name": "example_assistant",
            "content": "Let's talk later when we're less busy about how to do better.",
        },
        {
            "role": "user",
            "content": "This late pivot means we don't have time to boil the ocean for the client "
            "deliverable.",
        },
    ]
    counts = [
        (await tokenizer.count({"messages": messages}, model=model)).tokens
        for model in ("gpt-3.5-turbo-0301", "gpt-4", "gpt-4o")
    ]
    assert counts == [127, 129, 124]


async def test_the_given_model_overrules_the_bodys(tokenizer: Tokenizer) -> None:
    chinese = body("我们昨天在北京看了一场电影。")
    by_body = await tokenizer.count(chinese)
    overruled = await tokenizer.count(chinese, model="gpt-4")
    assert (by_body.model, overruled.model) == ("gpt-4o", "gpt-4")
    assert overruled.tokens > by_body.tokens


async def test_other_servers_models_are_estimated(tokenizer: Tokenizer) -> None:
    assert (await tokenizer.count(body("hi", model="llama-3"))).exactness == "estimated"
    assert (await tokenizer.count({"messages": [{"role": "user"}]})).exactness == "estimated"


async def test_the_operator_says_what_a_deployment_is(
    new_tokenizer: Callable[..., Tokenizer],
) -> None:
    tokenizer = new_tokenizer(encodings={"prod-*": "gpt-4"})
    deployed = await tokenizer.count(body("我们昨天在北京", model="prod-eu"))
    original = await tokenizer.count(body("我们昨天在北京", model="gpt-4"))
    assert (deployed.tokens, deployed.exactness) == (original.tokens, "exact")


# Requests of every kind, sane and not.

words = st.text(st.characters() | st.sampled_from('aé字 .\n"<|>\ud800'), max_size=30)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
ids = st.sampled_from(["1", "2", "3"])
names = st.sampled_from(["f", "get_weather"]) | words
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file", "refusal"]) | junk},
    optional={"text": words | junk, "image_url": junk, "refusal": words},
)
contents = words | st.none() | st.lists(parts | words, max_size=3) | junk
calls = st.fixed_dictionaries(
    {"id": ids, "function": st.fixed_dictionaries({"name": names, "arguments": words | junk})}
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": contents},
    optional={
        "name": names,
        "tool_calls": st.lists(calls | junk, max_size=3) | junk,
        "tool_call_id": ids,
        "refusal": words,
    },
)
schemas = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "object", "array", ["string", "null"]])},
        optional={"title": words, "description": words, "default": junk, "enum": st.lists(junk)},
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["object", "array"])},
        optional={
            "properties": st.dictionaries(names, inner, max_size=3) | junk,
            "items": inner | junk,
            "anyOf": st.lists(inner, max_size=3) | junk,
            "$ref": st.sampled_from(["#/$defs/f", "#"]),
            "$defs": st.dictionaries(st.just("f"), inner),
            "required": st.lists(names, max_size=2) | junk,
        },
    ),
    max_leaves=5,
)
functions = st.fixed_dictionaries(
    {"name": names}, optional={"description": words, "parameters": schemas | junk}
)
tools = st.fixed_dictionaries({"type": st.just("function"), "function": functions | junk})
formats = st.fixed_dictionaries(
    {
        "type": st.just("json_schema"),
        "json_schema": st.fixed_dictionaries(
            {"name": names, "schema": schemas | junk}, optional={"description": words}
        ),
    }
)
requests = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["gpt-4o", "gpt-4-0613", "gpt-5", "o3-mini", "other"]) | junk,
        "messages": st.lists(messages | junk, max_size=6),
    },
    optional={
        "tools": st.lists(tools | junk, max_size=3) | junk,
        "functions": st.lists(functions | junk, max_size=2) | junk,
        "response_format": formats | junk,
        "tool_choice": st.sampled_from(["auto", {"function": {"name": "f"}}]) | junk,
        "function_call": st.sampled_from(["auto", {"name": "f"}]) | junk,
        "temperature": st.floats(0, 2),
    },
)


@given(request=requests)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_every_form_of_a_body_has_the_same_count(
    vocabularies: Vocabularies, request: dict[str, Any]
) -> None:
    tokenizer = Tokenizer()
    tokenizer._vocabularies = vocabularies
    ascii_ = json.dumps(request, indent=1).encode()
    decoded = await tokenizer.count(request)
    assert await tokenizer.count(ascii_) == decoded
    assert await tokenizer.count(ascii_) == decoded  # remembered
    tokenizer.close()

    assert decoded.tokens == decoded.overhead + sum(decoded.messages)
    assert len(decoded.messages) == len(request["messages"])
    assert all(cost >= 0 for cost in decoded.messages)

    forgetful = Tokenizer(inline_characters=0)  # everything in the thread
    forgetful._vocabularies = vocabularies
    assert await forgetful.count(ascii_) == decoded
    forgetful.close()


@given(data=st.binary(max_size=50) | junk.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_have_a_count(vocabularies: Vocabularies, data: bytes) -> None:
    tokenizer = Tokenizer()
    tokenizer._vocabularies = vocabularies
    count = await tokenizer.count(data)
    tokenizer.close()
    assert count.exactness == "estimated"
    assert count.tokens == count.overhead + sum(count.messages)


@pytest.mark.parametrize(
    "odd",
    [
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[' + b'{"content":' * 500 + b"1" + b"}" * 500 + b"]}",
        b'{"messages":[],"tools":[' + b'{"function":' * 500 + b"1" + b"}" * 500 + b"]}",
        b'{"messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b"}]}",
    ],
)
async def test_endless_nesting_is_estimated(tokenizer: Tokenizer, odd: bytes) -> None:
    assert (await tokenizer.count(odd, model="gpt-4o")).exactness == "estimated"


async def test_a_decoded_body_that_never_was_json_is_estimated(tokenizer: Tokenizer) -> None:
    count = await tokenizer.count({"messages": [object()]})
    assert (count.tokens, count.exactness) == (0, "estimated")


async def test_hostile_bodies_are_counted(tokenizer: Tokenizer) -> None:
    for text in (" " * 2_000_000, "=" * 1_000_000, "<|endoftext|>" * 10_000):
        count = await tokenizer.count(body(text))
        assert count.exactness == "exact"
        assert 0 < count.tokens < len(text)


async def test_a_body_beyond_the_ceiling_is_estimated(
    new_tokenizer: Callable[..., Tokenizer],
) -> None:
    tokenizer = new_tokenizer(max_characters=1_000)
    count = await tokenizer.count(body("short", LONG))
    assert count.exactness == "estimated"
    assert count.messages == (5, 4 + estimate(30_000))


@pytest.fixture
def threads(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads in which requests are weighed."""
    names: list[str] = []
    weigh = tokenizer._ledger.chat

    def noting(*args: Any) -> Any:
        names.append(threading.current_thread().name)
        return weigh(*args)

    monkeypatch.setattr(tokenizer._ledger, "chat", noting)
    return names


async def test_long_texts_are_counted_in_the_thread(
    tokenizer: Tokenizer, threads: list[str]
) -> None:
    await tokenizer.count(body("short"))
    assert threads == ["MainThread"]
    await tokenizer.count(body(LONG))
    assert threads[1:] == ["MainThread", "tokens_0"]
    await tokenizer.count(body(LONG, "short"))  # it is remembered
    assert threads[3:] == ["MainThread"]


@pytest.mark.parametrize(
    "request_", [body(HUGE), body(*map(str, range(3_000)))], ids=["bytes", "messages"]
)
async def test_large_bodies_never_occupy_the_loop(
    tokenizer: Tokenizer, threads: list[str], request_: dict[str, Any]
) -> None:
    for _ in range(2):  # not even when they are remembered
        await tokenizer.count(request_)
        assert set(threads) == {"tokens_0"}


async def test_a_crowd_is_estimated_instead_of_kept_waiting(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "_MOST_WAITING", 2)
    texts = [f"{index} {LONG}" for index in range(4)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(tokenizer.count(body(text))) for text in texts]
    exactness = [task.result().exactness for task in tasks]
    assert exactness == ["exact", "exact", "estimated", "estimated"]
    assert (await tokenizer.count(body(texts[3]))).exactness == "exact"


async def test_a_cancelled_count_leaves_no_trace(tokenizer: Tokenizer) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tokenizer.count(body(HUGE)), 0.001)
    assert tokenizer._waiting == 0
    assert (await tokenizer.count(body(LONG))).exactness == "exact"


async def test_nothing_of_a_text_is_kept(tokenizer: Tokenizer) -> None:
    secret = "the password is hunter2, and nobody may know it; "
    tool = {"type": "function", "function": {"name": secret, "description": secret}}
    call = {"id": secret, "function": {"name": secret, "arguments": secret}}
    request = body(secret, secret * 10, LONG + secret, tools=[tool])
    request["messages"].append({"role": "assistant", "tool_calls": [call, call]})
    request["messages"].append({"role": "tool", "tool_call_id": secret, "content": secret})
    await tokenizer.count(msgspec.json.encode(request))

    reached: list[object] = [tokenizer]
    seen = {id(tokenizer)}
    for thing in reached:
        for held in gc.get_referents(thing):
            if id(held) not in seen and not isinstance(held, (type, type(gc), threading.Thread)):
                seen.add(id(held))
                if type(held) in {str, bytes, int, dict, list, tuple} or "proxy.tokens" in str(
                    type(held)
                ):
                    reached.append(held)
    texts = [thing for thing in reached if isinstance(thing, (str, bytes))]
    assert len(reached) > 20
    assert not [text for text in texts if "hunter2" in str(text)]


async def test_texts_are_counted(tokenizer: Tokenizer) -> None:
    assert await tokenizer.count_text("hello world", "gpt-4o") == 2
    assert await tokenizer.count_text("", "gpt-4o") == 0
    assert await tokenizer.count_text(LONG, "gpt-4o") == 8_001


async def test_answers_are_counted(tokenizer: Tokenizer) -> None:
    assert await tokenizer.count_completion({"content": "hello world"}, "gpt-4o") == 2
    call = {"function": {"name": "f", "arguments": "{}"}}
    assert await tokenizer.count_completion({"tool_calls": [call]}, "gpt-4o") == 2 + 1 + 6
    assert await tokenizer.count_completion({"content": object()}, "gpt-4o") == 0


async def test_usage_corrects_the_counts_of_unknown_servers(tokenizer: Tokenizer) -> None:
    async def count(words: int, messages: int) -> Count:
        contents = [f"{'word ' * words}." for _ in range(messages)]
        return await tokenizer.count(body(*contents, model="qwen"), upstream="home")

    for words, messages in [(10, 1), (50, 3), (200, 2), (400, 5), (100, 9), (300, 4)]:
        counted = await count(words, messages)
        # its template has 40 tokens in front, 7 around each message, and a smaller vocabulary
        actual = 40 + 7 * messages + round(1.2 * counted.text_tokens)
        tokenizer.learn(counted, actual, upstream="home")

    learned = await count(250, 6)
    assert learned.tokens == pytest.approx(40 + 7 * 6 + 1.2 * learned.text_tokens, rel=0.03)
    assert learned.exactness == "estimated"
    assert learned.tokens == learned.overhead + sum(learned.messages)
    elsewhere = await tokenizer.count(body("word", model="qwen"), upstream="elsewhere")
    assert elsewhere.tokens == 8


async def test_usage_judges_the_counts_called_exact(tokenizer: Tokenizer) -> None:
    count = await tokenizer.count(body("hello world"))
    for round_ in range(40):
        tokenizer.learn(count, count.tokens + round_ % 2, upstream="openai")
    assert tokenizer.exact_share("gpt-4o", upstream="openai") == 0.5
    assert tokenizer.exact_share("gpt-4o", upstream="azure") is None
    assert (await tokenizer.count(body("hello world"), upstream="openai")) == count


async def test_nothing_is_learned_from_what_could_not_be_read(tokenizer: Tokenizer) -> None:
    unreadable = await tokenizer.count(b"no json", model="qwen")
    for _ in range(10):
        tokenizer.learn(unreadable, 1_000, upstream="home")
    count = await tokenizer.count(body("hi", model="qwen"), upstream="home")
    assert count.tokens == 8


async def test_vocabularies_are_loaded_only_for_the_models_that_need_them(
    monkeypatch: pytest.MonkeyPatch, vocabularies: Vocabularies
) -> None:
    loaded: list[tuple[str, str]] = []

    def load(name: str) -> object:
        loaded.append((name, threading.current_thread().name))
        return vocabularies.load(name)

    monkeypatch.setattr(vocabulary, "load", load)
    tokenizer = Tokenizer()
    await tokenizer.load("gpt-4o", "gpt-5")
    assert loaded == [("o200k_base", "tokens_0")]
    await tokenizer.count(body("hi", model="gpt-4"))
    await tokenizer.load()
    assert loaded == [("o200k_base", "tokens_0"), ("cl100k_base", "tokens_0")]
    tokenizer.close()


async def test_a_vocabulary_that_does_not_load_is_reported_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_name: str) -> None:
        raise VocabularyError("gone")

    monkeypatch.setattr(vocabulary, "load", refuse)
    tokenizer = Tokenizer()
    with pytest.raises(VocabularyError):
        await tokenizer.load("gpt-4o")
    assert (await tokenizer.count(body("hello world"))).exactness == "estimated"
    tokenizer.close()


async def test_a_closed_tokenizer_counts_what_needs_no_thread(tokenizer: Tokenizer) -> None:
    tokenizer.close()
    tokenizer.close()
    assert (await tokenizer.count(body("hello world"))).tokens == 9
    assert (await tokenizer.count(body(LONG))).exactness == "estimated"


async def test_what_still_waits_at_the_end_is_estimated(tokenizer: Tokenizer) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(tokenizer.count(body(HUGE)))
        second = group.create_task(tokenizer.count(body(LONG)))
        await asyncio.sleep(0.02)
        tokenizer.close()
    assert first.result().exactness == "exact"
    assert second.result().exactness == "estimated"
