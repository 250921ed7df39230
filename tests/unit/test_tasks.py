"""Background tasks."""

from __future__ import annotations

import asyncio
import logging

from proxy.tasks import Tasks


async def test_drain_waits_for_what_is_under_way():
    tasks, done = Tasks(), []

    async def work():
        await asyncio.sleep(0.01)
        done.append(1)

    tasks.spawn(work(), name="work")
    await tasks.drain(1)
    assert done == [1]
    assert len(tasks) == 0


async def test_drain_cancels_what_takes_too_long():
    tasks, cancelled = Tasks(), asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    tasks.spawn(work(), name="work")
    await tasks.drain(0.01)
    assert cancelled.is_set()


async def test_a_task_that_fails_is_logged_by_name_and_harms_no_other(caplog):
    tasks = Tasks()

    async def fails():
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="dragoman"):
        tasks.spawn(fails(), name="summary")
        await tasks.drain(1)
    assert "summary" in caplog.text


async def test_work_is_refused_when_too_much_is_under_way():
    tasks = Tasks(limit=1)
    gate = asyncio.Event()

    async def waits():
        await gate.wait()

    assert tasks.defer(waits(), name="a")
    assert not tasks.defer(waits(), name="b")
    assert tasks.refused == 1
    gate.set()
    await tasks.drain(1)
