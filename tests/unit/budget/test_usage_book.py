"""The book of usage at its end: what was noted is written, or said to be lost."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from types import SimpleNamespace

from plugins.budget import usage
from plugins.budget.days import Row, read_day
from plugins.budget.usage import UsageBook
from tests.support.stores import store_at

DAY = "2026-11-22"


def book_on(store):
    log = logging.getLogger("dragoman.plugins.budget")
    return UsageBook(SimpleNamespace(store=store, log=log, defer=lambda *_, **__: False), 86_400)  # type: ignore[arg-type]


def note(book, requests=1, model="m"):
    for _ in range(requests):
        book.note(DAY, "ann", model, Counter(requests=1, prompt=10))


async def test_a_process_that_ends_while_redis_is_away_waits_for_it(redis, monkeypatch):
    monkeypatch.setattr(usage, "LAST_SECONDS", 20)
    async with store_at(redis.url, timeout=0.1) as store:
        book = book_on(store)
        note(book)
        await book.write()
        redis.freeze()
        note(book, 2)
        closing = asyncio.create_task(book.close())
        await asyncio.sleep(0.3)
        note(book, 4)  # an exchange that ends late
        redis.thaw()
        await closing
    async with store_at(redis.url) as store:
        assert await read_day(store, DAY) == {Row("ann", "m"): Counter(requests=7, prompt=70)}


async def test_what_is_lost_is_said(redis, monkeypatch, caplog):
    monkeypatch.setattr(usage, "LAST_SECONDS", 0.3)
    async with store_at(redis.url, timeout=0.1) as store:
        book = book_on(store)
        redis.freeze()
        note(book, 3)
        await book.close()
        redis.thaw()
    assert "the usage of 3 requests is not written" in caplog.text


async def test_many_rows_are_written_in_several_steps_and_read_in_several_pages(redis):
    async with store_at(redis.url) as store:
        book = book_on(store)
        for number in range(1_500):
            note(book, model=f"a\nmodel {number}")
        await book.write()
        note(book, model="a\nmodel 7")
        await book.write()
        rows = await book.day(DAY)
    assert len(rows) == 1_500
    assert rows[Row("ann", "a\nmodel 7")] == Counter(requests=2, prompt=20)
    assert sum(amounts["requests"] for amounts in rows.values()) == 1_501
