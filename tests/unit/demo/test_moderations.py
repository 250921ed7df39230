"""Moderation flags a category where one of its words occurs."""

from __future__ import annotations

import pytest


async def results(client, given):
    return (await client.moderations.create(input=given)).results


async def test_a_text_with_a_word_of_a_category_is_flagged_with_it(client):
    [result] = await results(client, "I will KILL you, idiot!")
    assert result.flagged
    named = [name for name, yes in result.categories.model_dump().items() if yes]
    assert sorted(named) == ["harassment", "violence"]
    assert result.category_scores.violence > 0.9
    assert result.category_scores.hate < 0.1


@pytest.mark.parametrize("text", ["Good morning", "a skilled worker", ""])
async def test_a_text_without_such_a_word_is_not_flagged(client, text):
    [result] = await results(client, text)
    assert not result.flagged


async def test_each_text_of_a_list_gets_its_own_result(client):
    assert [r.flagged for r in await results(client, ["fine", "murder", "fine"])] == [
        False,
        True,
        False,
    ]


async def test_parts_are_one_input_together(client):
    parts = [
        {"type": "text", "text": "a bomb"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    ]
    [result] = await results(client, parts)
    assert result.flagged
