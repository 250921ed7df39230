"""The file of questions is read again when it has changed, and never half."""

from __future__ import annotations

import asyncio
import os

import pytest

from plugins.faq_cache.reading import LATEST
from tests.support.raw import ask_chat, metric

QUESTION = "How can I get the refund, please?"
FAQ = """
[[faq]]
id = "refund"
question = "How do I get a refund?"
answer = "Within 14 days."

[[faq]]
id = "price"
question = "What does it cost?"
answer = "Nothing."
"""


@pytest.fixture
def answering(proxy, upstream, tmp_path):
    """Start a proxy with this FAQ."""

    async def start(faq: str = FAQ):
        file = tmp_path / "faq.toml"
        file.write_text(faq)
        up = await upstream()
        return await proxy(up.url, f"[[plugins]]\nuse = 'faq_cache'\nfile = '{file}'\n"), file

    return start


async def text(running, question):
    return (await ask_chat(running, question)).json["choices"][0]["message"]["content"]


async def until(check, seconds: float = 8) -> None:
    async with asyncio.timeout(seconds):
        while not await check():
            await asyncio.sleep(0.1)


async def test_a_changed_file_is_read_and_a_broken_one_is_not(answering):
    running, file = await answering()

    async def change(content: str, stamp: int) -> None:
        await asyncio.to_thread(file.write_text, content)
        await asyncio.to_thread(os.utime, file, (stamp, stamp))

    await change(FAQ.replace("Within 14 days.", "Within 30 days."), 1)

    async def says_30() -> bool:
        return await text(running, QUESTION) == "Within 30 days."

    await until(says_30)
    await change("[[faq]", 2)

    async def refused() -> bool:
        assert await says_30()
        return await metric(running, 'dragoman_faq_cache_loads_total{outcome="refused"}') == 1

    await until(refused)
    assert await says_30()


async def test_after_a_silence_the_first_answer_is_that_of_the_file_as_it_is(answering):
    running, file = await answering()
    assert await text(running, QUESTION) == "Within 14 days."
    await asyncio.to_thread(file.write_text, FAQ.replace("Within 14 days.", "Within 30 days."))
    await asyncio.sleep(LATEST + 0.1)
    answers = [text(running, QUESTION) for _ in range(5)]
    assert set(await asyncio.gather(*answers)) == {"Within 30 days."}


async def test_a_file_that_cannot_be_used_keeps_the_proxy_from_starting(answering):
    with pytest.raises(Exception, match=r"(?s)'refund'.*price-x"):
        await answering(
            faq=FAQ.replace('id = "price"', 'id = "price-x"\nnothing = 1').replace(
                'id = "refund"', 'id = "refund"\nnothing = 1'
            )
        )


async def test_while_the_file_is_gone_everything_stays(answering):
    running, file = await answering()
    file.unlink()

    async def refused() -> bool:
        assert await text(running, QUESTION) == "Within 14 days."
        return await metric(running, 'dragoman_faq_cache_loads_total{outcome="refused"}') == 1

    await until(refused)
    assert await text(running, QUESTION) == "Within 14 days."
