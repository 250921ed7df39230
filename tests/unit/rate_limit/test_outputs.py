"""How long an answer is expected to be, and how much is set aside for it."""

from __future__ import annotations

import random

import pytest

from plugins.rate_limit.buckets import LocalBuckets
from plugins.rate_limit.demand import Demands, with_tokens
from plugins.rate_limit.options import Limit
from plugins.rate_limit.outputs import Outputs
from tests.support.requests import chat_request


def outputs(*lengths, first=500, reserve_most=True):
    made = Outputs(first, reserve_most=reserve_most)
    for length in lengths:
        made.learn(chat_request(), length)
    return made


def test_the_first_answer_is_what_the_option_says():
    assert outputs().estimate(chat_request(), 100) == (600, 600)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_it_is_no_longer_than_the_client_wants_and_that_is_set_aside(name):
    request = chat_request().replace(**{name: 50})
    assert outputs(10, 10).estimate(request, 100) == (110, 150)
    assert outputs().estimate(request, 100) == (150, 150)


@pytest.mark.parametrize("value", [None, "50", True, 0, -1, 1.5])
def test_what_is_no_number_of_tokens_is_no_cap(value):
    assert outputs().estimate(chat_request(max_tokens=value), 100) == (600, 600)


def test_the_average_follows_answers_and_the_longest_is_forgotten_slowly():
    seen = outputs(100, 900, *[100] * 20)
    expected, most = seen.estimate(chat_request(), 0)
    assert 100 <= expected < 110
    assert 300 < most < 500


def test_callers_and_models_are_learned_of_apart():
    seen = outputs(10)
    assert seen.estimate(chat_request(caller="other"), 0) == (500, 500)
    assert seen.estimate(chat_request(model="other"), 0) == (500, 500)


def test_choices_are_counted_each():
    seen = Outputs(500, reserve_most=True)
    seen.learn(chat_request(n=4), 400)
    assert seen.estimate(chat_request(), 0) == (100, 100)
    assert seen.estimate(chat_request(n=3, max_tokens=120), 10) == (310, 370)


def test_only_what_is_expected_is_set_aside_if_that_is_wanted():
    assert outputs(10, reserve_most=False).estimate(chat_request(max_tokens=50), 1) == (11, 11)


@pytest.mark.parametrize("seed", range(20))
async def test_a_limit_of_tokens_is_exceeded_by_no_more_than_one_answer(seed):
    """Requests come and end at random, each with an answer up to what it may be at most."""
    draw, now = random.Random(seed), 0
    longest, capacity = 400, 2_000
    demands = Demands([Limit(name="t", tokens=capacity, period=60)])
    buckets, seen, running = LocalBuckets(lambda: now), Outputs(10, reserve_most=True), []
    used = []  # what was really used, and when it was let in
    for number in range(400):
        now += round(draw.expovariate(5) * 1e6)
        if running and draw.random() < 0.4:
            lease, asked, demand, prompt, answer = running.pop(draw.randrange(len(running)))
            await buckets.settle([demand], lease, [demand.charge - prompt - answer])
            seen.learn(asked, answer)
            continue
        cap = draw.randint(1, longest)
        request = chat_request(max_tokens=cap)
        prompt, answer = draw.randint(1, 50), draw.choice([draw.randint(1, cap), cap])
        (demand,) = with_tokens(demands.of(request), seen.estimate(request, prompt))
        if (await buckets.reserve([demand], f"{number}")).allowed:
            running.append((f"{number}", request, demand, prompt, answer))
            used.append((now, prompt + answer))
        total = sum(tokens for at, tokens in used)
        assert total <= capacity * (1 + now / 60e6) + longest
    assert sum(tokens for _, tokens in used) > capacity


async def test_a_limit_below_the_need_of_one_request_lets_one_through_when_it_is_full():
    now = 0
    demands = Demands([Limit(name="t", tokens=100, period=10)])
    buckets, seen = LocalBuckets(lambda: now), Outputs(500, reserve_most=True)

    async def passes():
        request = chat_request()
        made = with_tokens(demands.of(request), seen.estimate(request, 80))
        return (await buckets.reserve(made, "l")).allowed

    assert [await passes(), await passes()] == [True, False]
    now += 9_000_000
    assert not await passes()
    now += 1_000_000
    assert await passes()


async def test_a_client_that_wants_endless_answers_owes_no_more_than_one_period():
    now = 0
    demands = Demands([Limit(name="t", tokens=100, period=10)])
    buckets, seen = LocalBuckets(lambda: now), Outputs(10, reserve_most=True)
    request = chat_request(max_tokens=10**15)
    made = with_tokens(demands.of(request), seen.estimate(request, 5))
    assert (await buckets.reserve(made, "l")).allowed
    now += 10_000_000
    assert (await buckets.reserve(made, "m")).allowed


async def test_each_key_has_an_allowance_of_its_own():
    def keys(per, **other):
        made = Demands([Limit(name="x", per=per, requests=1)])
        request = chat_request(caller="a", model="m")
        changed = chat_request(**{"caller": "a", "model": "m", **other})
        (one,), (two,) = made.of(request), made.of(changed)
        return one.key == two.key

    assert not keys("caller", caller="b")
    assert keys("caller", model="n")
    assert not keys("model", model="n")
    assert keys("model", caller="b")
    assert not keys("caller+model", caller="b")
    assert not keys("caller+model", model="n")
    assert keys("global", caller="b", model="n")
    assert keys("session", model="n")


def test_keys_of_one_request_lie_on_one_server_of_a_cluster():
    def tags(*per):
        made = Demands([Limit(name=each.replace("+", "."), per=each, requests=1) for each in per])
        request = chat_request(caller="a}{", model="{m}")
        keys = [demand.key for demand in made.of(request)]
        return {key[: key.index("}")] for key in keys}

    assert len(tags("caller", "session", "caller+model")) == 1
    assert tags("caller", "session", "model", "global") == {"{all"}


def test_a_limit_holds_for_the_models_and_callers_it_names():
    limit = Limit.model_validate(
        {"name": "x", "requests": 1, "match": {"models": ["gpt-4*"], "callers": ["team-*"]}}
    )
    made = Demands([limit])
    assert made.of(chat_request(caller="team-a", model="gpt-4o"))
    assert not made.of(chat_request(caller="team-a", model="o3"))
    assert not made.of(chat_request(caller="other", model="gpt-4o"))
