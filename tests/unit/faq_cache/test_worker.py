"""The embedder's queue is bounded, and nobody waits for it longer than the deadline."""

from __future__ import annotations

import asyncio
import threading

import pytest

from plugins.faq_cache.worker import Skipped, Worker


@pytest.fixture
def held():
    event = threading.Event()
    yield event
    event.set()


async def test_it_works_in_another_thread():
    worker = Worker(threads=1, waiting=1, deadline=30)
    assert await worker.run(threading.get_ident) != threading.get_ident()
    worker.stop()
    with pytest.raises(Skipped, match="semantic_stopped"):
        await worker.run(int)


async def test_a_slow_embedder_is_not_waited_for_and_keeps_its_place(held):
    worker = Worker(threads=1, waiting=1, deadline=0.05)
    for _ in range(2):  # one in the thread, one before it
        with pytest.raises(Skipped, match="semantic_slow"):
            await worker.run(held.wait)
    # What waited and was given up has left its place; what runs has not.
    with pytest.raises(Skipped, match="semantic_slow"):
        await worker.run(held.wait)
    held.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await worker.run(lambda: 7) == 7
                break
            except Skipped:
                continue
    worker.stop()


async def test_a_full_queue_is_refused_at_once(held):
    worker = Worker(threads=1, waiting=2, deadline=30)
    waiting = [asyncio.ensure_future(worker.run(held.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Skipped, match="semantic_busy"):
        await worker.run(held.wait)
    held.set()
    assert [await each for each in waiting] == [True] * 3
    assert await worker.run(lambda: 7) == 7
    worker.stop()


async def test_a_failure_is_a_miss_with_its_cause():
    worker = Worker(threads=1, waiting=1, deadline=30)
    with pytest.raises(Skipped, match="semantic_failed") as raised:
        await worker.run(lambda: 1 // 0)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    worker.stop()
