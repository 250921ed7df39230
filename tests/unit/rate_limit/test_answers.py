"""What clients are told."""

from __future__ import annotations

import pytest

from plugins.rate_limit.answers import duration, headers, refusal
from plugins.rate_limit.buckets import Decision, LocalBuckets
from plugins.rate_limit.demand import Demand
from plugins.rate_limit.options import Limit

LIMIT = Limit(name="small", requests=60, tokens=6_000, concurrent=2)


def demand(unit, capacity, rate=1e-6, need=1.0):
    return Demand(unit, unit, LIMIT, capacity, rate, need, need)


def decision(*pairs, allowed=True):
    demands, levels = zip(*pairs, strict=True)
    return Decision(demands, levels, allowed, LocalBuckets())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.12, "120ms"), (1, "1s"), (1.5, "1.5s"), (90, "1m30s")],
)
def test_times_are_written_as_openai_does(seconds, text):
    assert duration(seconds) == text


def test_long_times():
    assert duration(360) == "6m0s"
    assert duration(86_400) == "24h0m0s"


def test_headers_are_those_of_the_limit_that_comes_first_to_its_end():
    other = Demand("o", "requests", Limit(name="large", requests=600), 600, 1e-6)
    pairs = (other, 100.0), (demand("requests", 60), 57.5), (demand("tokens", 6_000), 6_100.0)
    assert headers(decision(*pairs)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "57.5s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h41m40s",
    }


def test_a_refusal_says_what_there_is_too_much_of_and_when_to_come_again():
    error = refusal(
        decision((demand("tokens", 6_000, need=20.2), 5_990.0), allowed=False), "gpt-4o"
    )
    assert error.body()["error"] == {
        "message": "Rate limit reached for gpt-4o on tokens per min (small): Limit 6000, "
        "Used 5990, Requested 21. Please try again in 10.2s.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert (error.headers["retry-after"], error.headers["retry-after-ms"]) == ("11", "10200")
    assert error.headers["x-ratelimit-remaining-tokens"] == "10"


def test_a_refusal_for_requests_and_for_places():
    error = refusal(decision((demand("requests", 60), 60.0), allowed=False), "")
    assert error.body()["error"]["type"] == "requests"
    error = refusal(decision((demand("concurrent", 2, rate=0.0), 2.0), allowed=False), "m")
    assert "concurrent requests (small): Limit 2, Used 2" in error.message
    assert error.headers == {"retry-after": "1", "retry-after-ms": "250"}
