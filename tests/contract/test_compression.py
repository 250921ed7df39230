"""Long chats through a real proxy: what the upstream gets to see, turn by turn."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from tests.support.raw import metric
from tests.support.upstream import completion
from tests.unit.compression.chats import open_calls, turn

MARKS = """
[[plugins]]
use = "compression"
high = 1_300
low = 500
keep = 2
segment_tokens = 60
"""
SYSTEM = {"role": "system", "content": "You are a shop's assistant."}


@pytest.fixture
def compressing(proxy, upstream):
    """Start an upstream that says "Fine." and a proxy that compresses with these options, too."""

    async def start(options: str = "", script=lambda call: call.chat("Fine."), marks=MARKS):
        up = await upstream(script)
        return up, await proxy(up.url, marks + options)

    return start


async def say(running, messages, key: str = "sk-ann", **options):
    """Send a chat; the answer with its headers."""
    async with running.client(api_key=key) as client:
        return await client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=messages, **options
        )


async def grow(running, turns: int, history=None, key: str = "sk-ann", pause: float = 0):
    """Chat for so many turns, with time to read the answers; the history as a client keeps it."""
    history = list(history or [SYSTEM])
    async with running.client(api_key=key) as client:
        for number in range(turns):
            history.append(turn(number)[0])
            answer = await client.chat.completions.create(model="gpt-4o-mini", messages=history)
            history.append({"role": "assistant", "content": answer.choices[0].message.content})
            await asyncio.sleep(pause)
    return history


def sent(up) -> list[list[dict[str, Any]]]:
    return [call.json["messages"] for call in up.calls]


def long_chat(turns: int = 30, size: int = 40) -> list[dict[str, Any]]:
    messages = [m for number in range(turns) for m in turn(number, size)]
    return [SYSTEM, *messages, {"role": "user", "content": "And now?"}]


async def test_a_short_chat_passes_as_it_came(compressing):
    up, running = await compressing()
    answer = await say(running, [SYSTEM, *turn(1), {"role": "user", "content": "Hi"}])
    assert "x-dragoman-compression" not in answer.headers
    assert sent(up) == [[SYSTEM, *turn(1), {"role": "user", "content": "Hi"}]]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_chat_is_shortened_and_says_so(compressing, stream):
    up, running = await compressing()
    history = long_chat()
    answer = await say(running, history, stream=stream)
    (messages,) = sent(up)
    assert messages[0] == SYSTEM
    assert messages[-1] == history[-1]
    assert messages[2] in history
    assert len(msgspec.json.encode(messages)) < len(msgspec.json.encode(history)) / 3
    fields = dict(f.split("=") for f in answer.headers["x-dragoman-compression"].split(";")[1:])
    assert int(fields["cut"]) > 40
    assert await metric(running, "dragoman_compression_tokens_saved_total") == int(fields["saved"])


async def test_a_header_switches_it_off(compressing):
    up, running = await compressing()
    await say(running, long_chat(), extra_headers={"x-dragoman-compression": "off"})
    assert sent(up) == [long_chat()]


async def test_between_two_compactions_the_prompt_is_only_added_to(compressing):
    """Else the upstream's cache would be cold each turn."""
    up, running = await compressing("retrieval.enabled = false")
    await grow(running, 60)
    prompts = sent(up)
    breaks = sum(b[: len(a)] != a for a, b in pairwise(prompts))
    assert 3 <= breaks <= 8
    assert max(len(msgspec.json.encode(p)) for p in prompts) < 10_000


async def test_an_order_from_the_beginning_outlives_five_compactions(compressing):
    up, running = await compressing()
    order = "Never mention the colour of the box, not even if I ask for it."
    history = [
        SYSTEM,
        *turn(0),
        {"role": "user", "content": order},
        {"role": "assistant", "content": "OK."},
    ]
    await grow(running, 70, history)
    last = sent(up)[-1]
    assert len(last) < 30
    assert sum(order in str(message["content"]) for message in last) == 1
    assert last[1]["role"] == "user"


async def test_an_edit_leaves_no_trace_of_what_was_edited_away(compressing):
    up, running = await compressing()
    history = await grow(running, 8)
    secret = {"role": "user", "content": "Always call me Heliotrope 4711 in all your answers."}
    with_secret = [*history[:3], secret, {"role": "assistant", "content": "Yes."}, *history[3:]]
    await grow(running, 30, with_secret)
    assert "Heliotrope 4711" in str(sent(up)[-1])
    without = [m for m in await grow(running, 30, history) if m != secret]
    await say(running, [*without, {"role": "user", "content": "What is my name?"}])
    assert "Heliotrope" not in str(sent(up)[-1])


async def test_a_regenerated_answer_meets_the_same_memory(compressing):
    up, running = await compressing()
    history = long_chat()
    for _ in range(2):
        await say(running, history)
    assert sent(up)[0] == sent(up)[1]


async def test_a_tool_loop_is_never_cut(compressing):
    up, running = await compressing()
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop: list[dict[str, Any]] = [{"role": "user", "content": "Look everywhere."}]
    for number in range(12):
        one = {**call, "id": f"c{number}"}
        loop.append({"role": "assistant", "content": None, "tool_calls": [one]})
        loop.append({"role": "tool", "tool_call_id": f"c{number}", "content": "found " * 120})
    await say(running, [*long_chat()[:-1], *loop])
    (messages,) = sent(up)
    assert messages[-len(loop) :] == loop
    assert open_calls(messages) == set()


async def test_a_chat_that_is_too_long_for_the_model_is_shortened_and_sent_again(compressing):
    async def script(call):
        if len(call.body) > 6_000:
            error = {
                "message": "This model's maximum context length is 1500 tokens.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
            await call.answer(msgspec.json.encode({"error": error}), status="400 Bad Request")
        else:
            await call.chat("Fine.")

    up, running = await compressing("", script, '[[plugins]]\nuse = "compression"')
    answer = await say(running, long_chat(40))
    assert answer.status_code == 200
    assert len(sent(up)) == 2
    assert sent(up)[1][-1] == long_chat(40)[-1]
    with pytest.raises(Exception, match="maximum context length"):
        await say(running, [{"role": "user", "content": "long " * 3_000}])
    assert len(sent(up)) == 3


async def test_what_the_newest_message_asks_about_is_put_in_front_of_it(compressing):
    up, running = await compressing()
    told = {"role": "user", "content": "My locker at the Zanzibar station has the number 8812."}
    chat = long_chat()
    question = {"role": "user", "content": "Which number has my locker at Zanzibar?"}
    await say(
        running,
        [SYSTEM, *turn(0), told, {"role": "assistant", "content": "OK."}, *chat[3:-1], question],
    )
    (messages,) = sent(up)
    assert messages[-1] == question
    assert told["content"] in messages[-2]["content"]
    assert messages[-2]["role"] == "user"


async def test_parameters_and_unknown_fields_pass(compressing):
    up, running = await compressing()
    await say(running, long_chat(), temperature=0.3, extra_body={"nobody_knows": [1]})
    body = up.calls[0].json
    assert body["temperature"] == 0.3
    assert body["nobody_knows"] == [1]
    assert "prompt_cache_key" not in body


async def test_a_cache_key_is_sent_where_the_client_sends_none(compressing):
    up, running = await compressing("prompt_cache_key = true")
    for key, extra in (
        ("sk-ann", {}),
        ("sk-ann", {}),
        ("sk-bob", {}),
        ("sk-ann", {"prompt_cache_key": "own"}),
    ):
        await say(running, long_chat(), key=key, extra_body=extra)
    keys = [call.json["prompt_cache_key"] for call in up.calls]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    assert keys[0] != keys[2]
    assert keys[3] == "own"


async def test_a_summary_that_no_request_waits_for(compressing, upstream):
    """A summariser that hangs costs nothing: extracts stand in for it."""
    reached = asyncio.Event()

    async def hang(call):
        reached.set()
        await call.wait_closed(60)

    silent = await upstream(hang)
    up, running = await compressing(f'summariser.model = "m"\nsummariser.base_url = "{silent.url}"')
    loop = asyncio.get_running_loop()
    start = loop.time()
    await grow(running, 30)
    assert reached.is_set()
    assert loop.time() - start < 5
    assert len(sent(up)[-1]) < 30


@pytest.fixture
async def summarising(compressing, upstream):
    """A proxy whose summaries are made by a model that tells the first question it was shown."""
    calls = []

    async def sum_up(call):
        source = call.json["messages"][-1]["content"]
        calls.append(source)
        question = source.split("Question ")[1].split(":")[0]
        await call.answer(completion(f"They talked about question {question}."))

    model = await upstream(sum_up)
    up, running = await compressing(f'summariser.model = "m"\nsummariser.base_url = "{model.url}"')
    return up, running, calls


async def test_summaries_are_made_ahead_and_used_at_the_cut(summarising):
    up, running, calls = summarising
    await grow(running, 40, pause=0.03)
    assert "They talked about question 0." in str(sent(up)[-1][1])
    assert 2 <= len(calls) <= 12


async def until_foretold(running, calls, history=None, key: str = "sk-ann"):
    """Chat until the first summary is made, which is before the first cut."""
    history = history or [SYSTEM]
    before = len(calls)
    for _ in range(40):
        history = await grow(running, 1, history, key, pause=0.05)
        if len(calls) > before:
            return history
    raise AssertionError("no summary was made")


async def test_chats_that_differ_share_no_summary(summarising):
    """Two chats with the same opening, turn by turn in turns."""
    up, running, calls = summarising
    a = await grow(running, 3)
    b = [*a[:-2], {"role": "user", "content": "Something else entirely."}, a[-1]]
    for _ in range(24):
        a, b = await grow(running, 1, a, pause=0.02), await grow(running, 1, b, pause=0.02)
    cut = [m for m in sent(up) if "They talked" in str(m[1])]
    assert len(cut) > 4
    assert len(calls) == 2
    assert "Something else entirely." in calls[0] + calls[1]


async def test_eight_requests_at_once_have_one_summary_made(summarising):
    _, running, calls = summarising
    history = await until_foretold(running, calls)
    del calls[:]
    history[2] = {"role": "assistant", "content": "Edited, so that a new summary is due."}
    await asyncio.gather(*(grow(running, 1, history) for _ in range(8)))
    await asyncio.sleep(0.3)
    assert len(calls) == 1


async def test_callers_share_nothing(summarising):
    _, running, calls = summarising
    history = await until_foretold(running, calls)
    await grow(running, 1, history, key="sk-ann", pause=0.2)
    assert len(calls) == 1
    await grow(running, 1, history, key="sk-bob", pause=0.2)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "text",
    ["", "I'm sorry, I can't help with that.", "They agreed on 4711 dollars.", "word " * 400],
)
async def test_a_summary_that_is_not_sound_is_not_used(compressing, upstream, text):
    model = await upstream(lambda call: call.answer(completion(text)))
    up, running = await compressing(f'summariser.model = "m"\nsummariser.base_url = "{model.url}"')
    await grow(running, 30)
    assert len(model.calls) > 0
    memory = str(sent(up)[-1][1]["content"])
    assert "<earlier" in memory
    assert not text.strip() or text.strip() not in memory
