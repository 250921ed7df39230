"""The field `moderation` of a request: it passes, or is answered as OpenAI does."""

from __future__ import annotations

import openai
import pytest

from tests.support.moderation import ANSWER, ask, by_api, judge, says, stream_of
from tests.support.upstream import chunks

FIELD = {"model": "omni-moderation-latest"}
ANSWERED = """
field = "answer"

[[plugins.lists]]
name = "insults"
words = ["scoundrel"]
action = "flag"
"""


def blocking(stage: str) -> dict[str, object]:
    return {**FIELD, "policy": {stage: {"mode": "block"}}}


async def test_it_passes_as_it_is(moderating):
    up, running = await moderating()
    field = {**FIELD, "policy": {"input": {"mode": "score"}}}
    await ask(running, extra_body={"moderation": field})
    assert up.calls[0].json["moderation"] == field


async def test_it_is_answered_for_an_upstream_that_does_not_know_it(moderating, upstream):
    api = await upstream(judge())
    categories = 'categories = [{ name = "harassment", action = "flag" }]'
    up, running = await moderating(by_api(api.url, ANSWERED, categories), says(ANSWER))
    told = (await ask(running, "Hello, scoundrel", moderation=FIELD)).moderation
    assert "moderation" not in up.calls[0].json
    assert told.input.type == told.output.type == "moderation_results"
    (said,), (answered,) = told.input.results, told.output.results
    assert (said.flagged, answered.flagged) == (True, True)
    assert said.categories == {"insults": True, "harassment": False, "violence": False}
    assert said.category_scores == {"insults": 1.0, "harassment": 0.1, "violence": 0.2}
    assert answered.categories == {"harassment": True, "violence": False}
    assert answered.category_scores["harassment"] == 0.9
    assert answered.category_applied_input_types["violence"] == ["text"]
    assert answered.model == told.output.model == "omni-moderation-latest"
    assert (await ask(running)).moderation is None


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("text", ["Well, that is fine. And so on.", ANSWER])
async def test_in_a_stream_it_has_a_chunk_of_its_own(moderating, upstream, usage, text):
    api = await upstream(judge())
    up, running = await moderating(by_api(api.url, ANSWERED), says(text))
    options = {"stream_options": {"include_usage": True}} if usage else {}
    async with stream_of(running, moderation=FIELD, **options) as stream:
        seen = [chunk async for chunk in stream]
    assert "moderation" not in up.calls[0].json
    (place,) = [i for i, chunk in enumerate(seen) if chunk.moderation is not None]
    assert place == len(seen) - (2 if usage else 1)
    assert (seen[-1].usage is not None) == usage
    assert seen[place].choices == []
    (answered,) = seen[place].moderation.output.results
    is_bad = text == ANSWER
    assert answered.flagged == is_bad
    ends = [choice.finish_reason for chunk in seen for choice in chunk.choices]
    assert ends[-1] == ("content_filter" if is_bad else "stop")


async def test_each_choice_has_a_result(moderating):
    async def script(call):
        await call.start_stream()
        for index, text in ((0, "All is well."), (1, "You scoundrel, you.")):
            for event in chunks(text, call.json)[:-1]:
                await call.chunk(event.replace(b'"index":0', b'"index":%d' % index))
        await call.end_chunks()

    _, running = await moderating(f'[[plugins]]\nuse = "moderation"\n{ANSWERED}', script)
    async with stream_of(running, moderation=FIELD, n=2) as stream:
        *_, last = [chunk async for chunk in stream]
    assert [result.flagged for result in last.moderation.output.results] == [False, True]
    assert last.moderation.output.model == "dragoman"


async def test_what_is_flagged_is_blocked_for_a_client_who_wants_that(moderating):
    tables = f'[[plugins]]\nuse = "moderation"\n{ANSWERED}'
    _, running = await moderating(tables, says("You scoundrel, you."))
    assert (await ask(running, "scoundrel", moderation=blocking("output"))).choices[
        0
    ].finish_reason == "content_filter"
    with pytest.raises(openai.BadRequestError):
        await ask(running, "scoundrel", moderation=blocking("input"))
    choice = (await ask(running, "scoundrel", moderation=FIELD)).choices[0]
    assert choice.message.content == "You scoundrel, you."


async def test_a_stage_without_checks_or_whose_check_fails_has_an_error(moderating, upstream):
    async def broken(call):
        await call.answer(b"{}", status="500 Oops")

    api = await upstream(broken)
    options = 'field = "answer"\ninput.on_error = "open"'
    _, running = await moderating(by_api(api.url, options, 'stages = ["input"]'))
    told = (await ask(running, moderation=FIELD)).moderation
    assert (told.input.type, told.input.code) == ("error", "moderation_unavailable")
    assert (told.output.type, told.output.code) == ("error", "not_moderated")
    async with stream_of(running, moderation=FIELD) as stream:
        *_, last = [chunk async for chunk in stream]
    assert last.moderation.output.code == "not_moderated"
