"""The line: callers take turns, each is served in order, and who leaves takes nothing along."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from plugins.rate_limit.buckets import LocalBuckets
from plugins.rate_limit.demand import Demand
from plugins.rate_limit.limiter import Limiter
from plugins.rate_limit.line import Line, Waiter
from plugins.rate_limit.options import Limit

LIMIT = Limit(name="all", requests=100, concurrent=1)


class Services:
    """As much of the house as a limiter needs, without any Redis."""

    class store:  # noqa: N801
        is_shared = False

    def __init__(self):
        self.tasks = set()

    def defer(self, coroutine, *, name):
        task = asyncio.create_task(coroutine, name=name)
        self.tasks.add(task)
        return True


def every(seconds, key="all", need=1.0, capacity=1.0):
    return Demand(key, "requests", LIMIT, capacity, 1 / (seconds * 1e6), need, need)


class Queue:
    """A line, and in which order it lets requests through."""

    def __init__(self):
        self.services = Services()
        services: Any = self.services
        self.limiter = Limiter(services, 1)
        self.line = Line(self.limiter, 100)
        self.served = []
        self._numbers = iter(range(1000))

    async def ask(self, caller, *demands, seconds=5):
        name = f"{caller}{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        waiter = Waiter(caller, demands, name, loop.create_future(), None, 0.0)
        if not self.line.is_served:
            self.line.is_served = self.services.defer(self.line.serve(), name="line")
        decision = await self.line.wait(waiter, seconds)
        if decision is not None and decision.allowed:
            self.served.append(name)
        return decision

    async def all(self, *asked):
        async with asyncio.TaskGroup() as group:
            for each in asked:
                group.create_task(each)
        return self.served


async def test_callers_take_turns_however_many_requests_one_of_them_has():
    queue = Queue()
    many = [queue.ask("a", every(0.01)) for _ in range(5)]
    few = [queue.ask("b", every(0.01)), queue.ask("c", every(0.01))]
    served = await queue.all(*many, *few)
    assert served == ["a0", "b5", "c6", "a1", "a2", "a3", "a4"]


async def test_those_of_one_caller_are_served_in_the_order_they_came():
    queue = Queue()
    served = await queue.all(*(queue.ask(random.choice("abc"), every(0.002)) for _ in range(60)))
    for caller in "abc":
        numbers = [int(name[1:]) for name in served if name[0] == caller]
        assert numbers == sorted(numbers)


async def test_small_requests_behind_a_large_one_do_not_starve_it():
    queue = Queue()
    small = [queue.ask("b", every(0.01, need=1, capacity=10)) for _ in range(40)]
    large = queue.ask("a", every(0.01, need=10, capacity=10))
    first, *others = small
    served = await queue.all(first, large, *others)
    assert served[:2] == ["b0", "a1"]


async def test_one_that_waits_for_its_own_limit_holds_up_nobody_else():
    queue = Queue()
    own = [queue.ask("a", every(60, key="a"), seconds=0.3) for _ in range(3)]
    others = [queue.ask("b", every(0.01, key="b")) for _ in range(4)]
    assert await queue.all(*own, *others) == ["a0", "b3", "b4", "b5", "b6"]
    assert not len(queue.line)


async def test_who_leaves_makes_room_for_the_next_and_keeps_nothing():
    queue = Queue()
    await queue.ask("a", every(0.2))
    waiting = [asyncio.create_task(queue.ask(caller, every(0.2))) for caller in "bcd"]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    waiting[2].cancel()
    await asyncio.wait(waiting)
    assert queue.served == ["a0", "c2"]
    assert not len(queue.line)
    await asyncio.wait(queue.services.tasks)
    assert not queue.line.is_served


@pytest.mark.parametrize("seed", range(5))
async def test_places_are_never_lost_when_clients_leave_at_any_moment(seed):
    draw = random.Random(seed)
    queue = Queue()
    place = Demand("c", "concurrent", LIMIT, 2, 0.0)

    async def use_and_leave():
        task = asyncio.create_task(queue_and_release())
        await asyncio.sleep(draw.uniform(0, 0.01))
        task.cancel()
        await asyncio.wait([task])

    async def queue_and_release():
        lease = f"x{next(queue._numbers)}"
        waiter = Waiter("a", [place], lease, asyncio.get_running_loop().create_future(), None, 0)
        if not queue.line.is_served:
            queue.line.is_served = queue.services.defer(queue.line.serve(), name="line")
        decision = await queue.line.wait(waiter, 5)
        assert decision is not None
        try:
            await asyncio.sleep(draw.uniform(0, 0.002))
        finally:
            queue.limiter.undo_later(decision, lease)

    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(use_and_leave())
    while queue.services.tasks:
        task = queue.services.tasks.pop()
        await task
    assert isinstance(queue.limiter._local, LocalBuckets)
    assert not any(queue.limiter._local._places.values())
    queue.limiter.close()
