"""The real openai client works as if nothing stood in between."""

from __future__ import annotations


async def test_a_completion_comes_back_with_its_usage(proxy, upstream):
    running = await proxy((await upstream()).url)
    async with running.client() as client:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]
        )
    assert answer.choices[0].message.content == "Hello."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12


async def test_a_stream_comes_back_without_a_usage_chunk_that_was_not_asked_for(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url)
    async with running.client() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert [c.choices[0].delta.content for c in chunks] == ["", "Hello.", None]
    assert all("usage" not in c.model_fields_set for c in chunks)
    assert up.calls[0].json["stream_options"] == {"include_usage": True}
    turn = (await running.turns())[0]
    assert (turn["prompt_tokens"], turn["completion_tokens"]) == (9, 3)
    assert turn["usage_source"] == "upstream"
