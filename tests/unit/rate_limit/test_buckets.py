"""The buckets, in memory and in real servers: one set of tests, and both decide alike."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest

from plugins.rate_limit.buckets import LEASE, Decision, LocalBuckets
from plugins.rate_limit.demand import Demand
from plugins.rate_limit.options import Limit
from plugins.rate_limit.scripts import SharedBuckets
from tests.support.redis import BINARIES, running
from tests.support.stores import store_at

SECOND = 1_000_000
LIMIT = Limit(name="test", requests=60)


class Clock:
    """Microseconds, as a server's: far from zero."""

    def __init__(self):
        self.now = 1_790_000_000 * SECOND

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", *BINARIES])
async def buckets(request, clock):
    if request.param == "memory":
        yield LocalBuckets(clock)
        return
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(binary=BINARIES[request.param]))
        store = await stack.enter_async_context(store_at(server.url))
        yield SharedBuckets(store, clock)


def rate(capacity=60, seconds=60.0, key="{a}:r", need=1.0, charge=None, amount=None):
    per = (amount or capacity) / (seconds * SECOND)
    charge = need if charge is None else charge
    return Demand(key, "requests", LIMIT, capacity, per, need, charge)


def place(capacity, key="{a}:c"):
    return Demand(key, "concurrent", LIMIT, capacity, 0.0)


async def passes(buckets, *demands, lease="l"):
    return (await buckets.reserve(demands, lease)).allowed


async def test_a_whole_burst_passes_and_not_one_more(buckets):
    assert [await passes(buckets, rate()) for _ in range(62)] == [True] * 60 + [False] * 2


async def test_what_leaks_out_can_be_used_again_to_the_request(buckets, clock):
    for _ in range(60):
        assert await passes(buckets, rate())
    clock.pass_by(0.999)
    assert not await passes(buckets, rate())
    clock.pass_by(0.001)
    assert await passes(buckets, rate())
    clock.pass_by(10)
    assert [await passes(buckets, rate()) for _ in range(11)] == [True] * 10 + [False]


async def test_it_holds_no_more_than_a_burst_however_long_nobody_came(buckets, clock):
    assert await passes(buckets, rate())
    clock.pass_by(100_000)
    assert [await passes(buckets, rate()) for _ in range(61)] == [True] * 60 + [False]


async def test_a_refusal_takes_nothing_from_any_bucket(buckets):
    small, large = rate(1, key="{a}:s"), rate(3, key="{a}:l")
    assert await passes(buckets, small, large)
    for _ in range(5):
        assert not await passes(buckets, large, small, place(1))
    assert [await passes(buckets, large) for _ in range(3)] == [True, True, False]
    assert await passes(buckets, place(1))


async def test_it_says_how_full_buckets_are_and_when_to_come_again(buckets, clock):
    demand = rate(100, 10, need=30, charge=80)
    first = await buckets.reserve([demand], "l")
    assert (first.allowed, list(first.levels)) == (True, [80])
    clock.pass_by(0.5)
    refused = await buckets.reserve([demand], "l")
    decision = Decision([demand], refused.levels, refused.allowed, buckets)
    assert not decision.allowed
    assert decision.retry == pytest.approx(0.5)
    clock.pass_by(decision.retry + 1e-6)
    assert await passes(buckets, demand)


async def test_a_surplus_is_given_back_and_a_deficit_is_a_debt(buckets, clock):
    demand = rate(100, 100, need=50, charge=100)
    assert await passes(buckets, demand)
    await buckets.settle([demand], "l", [70.0])
    assert list((await buckets.reserve([demand], "l")).levels) == [130]
    await buckets.settle([demand], "l", [-20.0])
    clock.pass_by(99)
    assert not await passes(buckets, demand)
    clock.pass_by(1)
    assert await passes(buckets, demand)


async def test_no_more_is_given_back_than_fits(buckets):
    demand = rate(10, 10, need=5)
    assert await passes(buckets, demand)
    await buckets.settle([demand], "l", [1e9])
    assert [await passes(buckets, demand) for _ in range(3)] == [True, True, False]


async def test_a_place_is_held_until_it_is_given_back(buckets, clock):
    assert [await passes(buckets, place(2), lease=name) for name in "abc"] == [True, True, False]
    await buckets.settle([place(2)], "a", [0.0])
    await buckets.settle([place(2)], "a", [0.0])
    assert [await passes(buckets, place(2), lease=name) for name in "cd"] == [True, False]


async def test_places_that_nobody_renews_end_within_a_minute(buckets, clock):
    for name in "ab":
        assert await passes(buckets, place(2), lease=name)
    clock.pass_by(40)
    await buckets.renew("{a}:c", ["a"])
    clock.pass_by(20)
    assert [await passes(buckets, place(2), lease=name) for name in "cd"] == [True, False]
    clock.pass_by(LEASE / SECOND)
    assert [await passes(buckets, place(2), lease=name) for name in "efg"] == [True, True, False]


async def test_a_clock_that_jumps_back_stops_the_leak_no_longer_than_until_the_next_request(
    buckets, clock
):
    for _ in range(59):
        assert await passes(buckets, rate())
    clock.pass_by(-3_600)
    assert await passes(buckets, rate())
    assert not await passes(buckets, rate())
    clock.pass_by(1)
    assert await passes(buckets, rate())


async def test_many_buckets_that_are_empty_again_are_forgotten(clock):
    buckets = LocalBuckets(clock)
    for number in range(10_000):
        await passes(buckets, rate(key=f"{number}"))
        clock.pass_by(0.01)
    assert len(buckets._buckets) < 5_000


async def test_memory_and_servers_decide_alike_on_random_schedules(clock):
    async with running() as server, store_at(server.url) as store:
        twins = LocalBuckets(clock), SharedBuckets(store, clock)
        for seed in range(60):
            await schedule(random.Random(seed), clock, *twins)


async def schedule(draw, clock, local, shared):
    """Some limits and fifty operations on them, the same on both."""
    tag = f"{{{draw.random()}}}"
    demands = [
        rate(draw.choice([1, 7, 60, 20_000.5]), draw.choice([0.7, 10, 60, 86_400]), f"{tag}{n}")
        for n in range(draw.randint(1, 3))
    ]
    demands.append(place(draw.randint(1, 4), f"{tag}c"))
    for number in range(50):
        clock.pass_by(draw.choice([0, 0, 1e-6, 0.001, draw.expovariate(1), 20, -0.5]))
        chosen = [
            each._replace(need=need, charge=need * draw.choice([1, 1, 2.5])) if each.rate else each
            for each in draw.sample(demands, draw.randint(1, len(demands)))
            for need in [min(each.capacity, draw.choice([1, 1, 3, draw.random(), 812]))]
        ]
        lease = f"{draw.randrange(6)}"
        what = draw.random()
        if what < 0.7:
            mine, theirs = [await twin.reserve(chosen, lease) for twin in (local, shared)]
            assert mine.allowed == theirs.allowed, number
            assert list(mine.levels) == list(theirs.levels), number
        elif what < 0.95:
            surplus = [draw.choice([0.0, 1.0, -2.5, draw.random()]) for _ in chosen]
            for twin in (local, shared):
                await twin.settle(chosen, lease, surplus)
        else:
            for twin in (local, shared):
                await twin.renew(demands[-1].key, [lease])
