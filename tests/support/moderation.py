"""What tests of moderation share: tables, a Moderation API, and clients that read to the end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec

from tests.support.upstream import chunks, completion

LISTS = """
[[plugins]]
use = "moderation"

[[plugins.lists]]
name = "insults"
words = ["scoundrel", "坏蛋"]

[[plugins.lists]]
name = "rivals"
words = ["Acme Corp"]
action = "flag"

[[plugins.lists]]
name = "numbers"
patterns = ['\\b\\d{4}-\\d{4}\\b']
action = "mask"
"""
BAD = "nasty"


def judge(delay: float = 0, bad: str = BAD):
    """The script of a Moderation API that flags texts with a word in them."""

    async def script(call):
        assert call.target == "/v1/moderations"
        if delay:
            await asyncio.sleep(delay)
        results = [
            {
                "flagged": bad in text,
                "categories": {"harassment": bad in text, "violence": False},
                "category_scores": {"harassment": 0.9 if bad in text else 0.1, "violence": 0.2},
            }
            for text in call.json["input"]
        ]
        body = {"id": "modr-1", "model": call.json["model"], "results": results}
        await call.answer(msgspec.json.encode(body))

    return script


def by_api(url: str, more: str = "", api: str = "") -> str:
    return f"""
[[plugins]]
use = "moderation"
{more}
[plugins.api]
base_url = "{url}"
api_key = "sk-moderation"
{api}
"""


async def fine(call):
    await call.chat("Fine, thank you.")


async def broken(call):
    await call.answer(b"{}", status="500 Oops")


async def hanging(call):
    await call.wait_closed()


async def limited(call):
    await call.answer(b"{}", status="429 Slow down", headers=(("Retry-After", "30"),))


async def ask(running, messages="Hello", **options):
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    async with running.client() as client:
        return await client.chat.completions.create(
            model="gpt-4o-mini", messages=messages, **options
        )


@asynccontextmanager
async def stream_of(running, messages="Hello", **options):
    async with running.client() as client:
        yield await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": messages}],
            stream=True,
            **options,
        )


async def streamed(running, messages="Hello", seen=None, **options):
    """The text of a streamed answer, and how it ended; `seen` is told each piece of text."""
    text, reason = "", None
    async with stream_of(running, messages, **options) as stream:
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
                if seen is not None:
                    seen(text)
    return text, reason


ANSWER = "Well, let me think about that. It is a rather nasty thing to say. And so on."


def says(text: str, pause: float = 0):
    async def script(call):
        if not call.json.get("stream"):
            await call.answer(completion(text))
            return
        await call.start_stream()
        for event in chunks(text, call.json):
            await call.chunk(event)
            await asyncio.sleep(pause)
        await call.end_chunks()

    return script
