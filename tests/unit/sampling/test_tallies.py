"""The sums of feedback, in memory and in real servers: one set of tests, and both sum up alike."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest

from plugins.sampling.scripts import SharedShelf
from plugins.sampling.tallies import Chosen, LocalShelf, Tallies, fading
from plugins.sampling.trials import Trial
from tests.support.redis import BINARIES, running
from tests.support.stores import store_at

TTL = 3_600.0
FADE = fading(100)


@pytest.fixture(params=["memory", *BINARIES])
async def shelf(request):
    if request.param == "memory":
        yield LocalShelf(TTL)
        return
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(binary=BINARIES[request.param]))
        store = await stack.enter_async_context(store_at(server.url))
        yield SharedShelf(store, TTL)


async def known(shelf, scene="s"):
    (tallies,) = await shelf.sync([scene], None)
    return tallies


async def test_nothing_is_known_of_a_new_scene(shelf):
    assert await known(shelf) == Tallies()


async def test_feedback_fades_by_half_over_its_half_life_whatever_it_was_about(shelf):
    fade = fading(8)
    await shelf.learn(Trial("s", 0.3, ""), 0.75, fade)
    for _ in range(8):
        await shelf.learn(Trial("s", 0.9, ""), 0.0, fade)
    tallies = await known(shelf)
    assert tallies.number == 9
    other = tallies.tallies["0.9"]
    assert (other.good, other.answers, other.total) == (0, 8, 0)
    assert other.bad == pytest.approx(sum(fade**age for age in range(8)))
    await shelf.learn(Trial("s", 0.3, ""), 0.0, fade)
    again = (await known(shelf)).tallies["0.3"]
    assert again.good == pytest.approx(0.75 * fade**9)
    assert again.bad == pytest.approx(0.25 * fade**9 + 1)
    assert (again.answers, again.total) == (2, 0.75)


async def test_a_second_feedback_stands_in_the_place_of_the_first(shelf):
    corrected, plain = Trial("corrected", 0.3, ""), Trial("plain", 0.3, "")
    assert (await shelf.learn(corrected, 1.0, FADE)).outcome == 1
    assert (await shelf.learn(plain, 0.25, FADE)).outcome == 1
    for scene in ("corrected", "plain"):
        for _ in range(5):
            await shelf.learn(Trial(scene, 0.3, ""), 0.5, FADE)
    assert (await shelf.learn(corrected, 0.25, FADE)).outcome == 0
    one, other = await known(shelf, "corrected"), await known(shelf, "plain")
    assert one.number == other.number == 6
    assert one.tallies["0.3"] == pytest.approx(other.tallies["0.3"])
    assert (await shelf.learn(corrected, 0.25, FADE)).outcome == 0
    assert await known(shelf, "corrected") == one


async def test_it_tells_what_was_known_before_and_after(shelf):
    first = await shelf.learn(Trial("s", 0.3, ""), 1.0, FADE)
    second = await shelf.learn(Trial("s", 0.6, ""), 1.0, FADE)
    assert first.before == Tallies()
    assert second.before == first.after
    assert second.after == await known(shelf)


async def test_after_a_reset_nothing_is_known_and_what_was_answered_before_teaches_nothing(shelf):
    before = Trial("s", 0.3, "")
    await shelf.learn(before, 1.0, FADE)
    await shelf.learn(Trial("other", 0.3, ""), 1.0, FADE)
    await shelf.sync(["s"], Chosen("c", {("s", "0.3"): 5}))
    empty = await shelf.reset("s")
    assert (empty.number, empty.tallies, empty.chosen) == (0, {}, {})
    for trial in (before, Trial("s", 0.6, "")):
        assert (await shelf.learn(trial, 1.0, FADE)).outcome == -1
    assert await known(shelf) == empty
    assert (await shelf.learn(Trial("s", 0.6, empty.epoch), 1.0, FADE)).outcome == 1
    assert (await known(shelf, "other")).number == 1
    assert (await shelf.reset("s")).epoch != empty.epoch


async def test_what_was_chosen_is_added_up_by_scene_and_temperature(shelf):
    counts = {("a", "0.3"): 2, ("b", "0.3"): 3, ("b", "0.0"): 1}
    await shelf.sync(["a", "b"], Chosen("one", counts))
    a, b = await shelf.sync(["a", "b"], Chosen("two", {("b", "0.3"): 10}))
    assert (a.chosen, b.chosen) == ({"0.3": 2}, {"0.3": 13, "0.0": 1})


async def test_both_sum_up_alike_to_the_last_bit(redis):
    draw = random.Random(7)
    async with store_at(redis.url) as store:
        shared, local = SharedShelf(store, TTL), LocalShelf(TTL)
        trials = [Trial("s", draw.choice((0.0, 0.3, 1.0)), "") for _ in range(60)]
        for _ in range(300):
            trial, share = draw.choice(trials), draw.random()
            fade = draw.choice((1.0, FADE, fading(3)))
            one = await shared.learn(trial, share, fade)
            other = await local.learn(trial, share, fade)
            assert one == other
            assert min(min(each.good, each.bad) for each in one.after.tallies.values()) >= 0


async def test_counts_that_come_twice_are_added_once(redis):
    async with store_at(redis.url) as store:
        shared = SharedShelf(store, TTL)
        for _ in range(2):
            (found,) = await shared.sync(["s"], Chosen("same", {("s", "0.3"): 4}))
            assert found.chosen == {"0.3": 4}


async def test_a_redis_that_has_forgotten_the_sums_takes_feedback_as_new(redis):
    async with store_at(redis.url) as store:
        shared, trial = SharedShelf(store, TTL), Trial("s", 0.3, "")
        await shared.learn(trial, 1.0, FADE)
        await redis.client.delete("{tune}:1:s")
        learned = await shared.learn(trial, 0.0, FADE)
        assert (learned.outcome, learned.after.tallies["0.3"].good) == (1, 0)


async def test_everything_in_redis_has_an_end(redis):
    async with store_at(redis.url) as store:
        shared, trial = SharedShelf(store, TTL), Trial("s", 0.3, "")
        await shared.learn(trial, 1.0, FADE)
        await shared.sync(["s"], Chosen("c", {("s", "0.3"): 1}))
        await shared.reset("r")
        keys = list(await redis.client.keys("*"))
        assert len(keys) == 4
        ends = [await redis.client.ttl(key) for key in keys]
        assert min(ends) > 3_500
        assert await redis.client.ttl(f"{{tune}}:given:{trial.id}") <= TTL
