"""Word lists and patterns through a real proxy: what is refused, flagged, masked and let pass."""

from __future__ import annotations

import time

import openai
import pytest

from tests.support.moderation import LISTS, ask, streamed
from tests.support.raw import metric


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "You scoundrel!",
        "You SCOUNDREL",
        "you sc\u200bound\u00adrel",
        "you ｓｃｏｕｎｄｒｅｌ",
        "you 5c0undr3l",
        "you sc0undrel!",
        "你这个坏\u200b蛋。",
        "you s\u0336c\u0336oundrel",
    ],
)
async def test_a_word_is_found_however_it_is_written(moderating, text, stream):
    up, running = await moderating()
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, text, stream=stream)
    error = refused.value
    assert (error.status_code, error.code, error.param) == (
        400,
        "content_policy_violation",
        "messages",
    )
    assert error.type == "invalid_request_error"
    assert error.response.headers["x-dragoman-moderation"] == "input"
    assert "insults" not in error.response.text
    assert up.calls == []


@pytest.mark.parametrize("text", ["scoundrels?", "5 0 1", "an Acme corps", "坏 蛋", "4711"])
async def test_what_only_looks_like_a_word_passes(moderating, text):
    up, running = await moderating()
    assert (await ask(running, text)).choices[0].message.content == "Fine, thank you."
    assert up.calls[0].json["messages"][0]["content"] == text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_request_may_be_answered_as_a_completion(moderating, stream):
    options = 'input.answer = "completion"\ninput.message = "No."\nexpose_categories = true\n'
    up, running = await moderating(LISTS.replace("\n\n", f"\n{options}\n", 1))
    if stream:
        answer = await streamed(running, "scoundrel")
    else:
        choice = (await ask(running, "scoundrel")).choices[0]
        answer = choice.message.content, choice.finish_reason
    assert answer == ("No. (insults)", "content_filter")
    assert up.calls == []


async def test_the_code_may_be_azures(moderating):
    _, running = await moderating(LISTS.replace("\n\n", '\ninput.code = "content_filter"\n\n', 1))
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, "scoundrel")
    assert refused.value.code == "content_filter"


async def test_only_the_new_turn_is_checked_tools_included(moderating):
    _, running = await moderating()
    old = {"role": "user", "content": "scoundrel"}
    reply = {"role": "assistant", "content": "Pardon?"}
    fine = {"role": "user", "content": "Sorry."}
    assert await ask(running, [old, reply, fine])
    tool = {"role": "tool", "tool_call_id": "c1", "content": "scoundrel"}
    for turn in ([old, reply, tool, fine], [old, fine], [old, reply], [old, reply, reply]):
        with pytest.raises(openai.BadRequestError):
            await ask(running, turn)


async def test_flags_are_counted_and_masks_are_sent(moderating):
    up, running = await moderating()
    assert await ask(running, "Does Acme Corp have 1234-5678?")
    assert up.calls[0].json["messages"][0]["content"] == "Does Acme Corp have *********?"
    counted = 'dragoman_moderation_verdicts_total{action="mask",stage="input"}'
    assert await metric(running, counted) == 1
    (turn,) = await running.turns()
    assert "moderation" in str(turn)


async def test_a_pattern_that_takes_too_long_refuses_or_lets_pass(moderating):
    table = """
    [[plugins]]
    use = "moderation"
    {}
    [[plugins.lists]]
    name = "bomb"
    patterns = ['(?:(?:x+)+)+\\d(?:y|yy)*$']
    stages = ["input"]
    """
    bomb = "x" * 5_000 + "1" + "y" * 60 + "!"
    _, running = await moderating(table.format(""))
    start = time.perf_counter()
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(running, bomb)
    assert time.perf_counter() - start < 2
    assert failed.value.code == "moderation_unavailable"
    _, running = await moderating(table.format('input.on_error = "open"'))
    assert await ask(running, bomb)


async def test_the_name_that_a_user_gives_himself_is_checked_and_that_of_a_tool_is_not(moderating):
    up, running = await moderating()
    async with running.client() as client:
        for role in ("user", "assistant"):
            message = {"role": role, "name": "scoundrel", "content": "Hello."}
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="gpt-4o-mini", messages=[message])
        tool = {"role": "tool", "tool_call_id": "a", "name": "scoundrel", "content": "1"}
        await client.chat.completions.create(model="gpt-4o-mini", messages=[tool])
    assert len(up.calls) == 1
