"""For how long an upstream asks to be left alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict

from proxy.asked import pause, retry_after


def limits(remaining, reset=None, limit=None):
    told = {"remaining": remaining, "reset": reset, "limit": limit}
    return {f"x-ratelimit-{name}-requests": text for name, text in told.items() if text}


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "20"}, 20),
        (429, {"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        (429, {"retry-after": "0"}, 0),
        (429, {"Retry-After": "-5"}, 0),
        (429, {"Retry-After": "nan"}, 0),
        (429, {"Retry-After": "inf"}, math.inf),
        (429, {"Retry-After": "soon"}, 0),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00"}, 0),
        (429, {}, 0),
        (503, {"Retry-After": "20"}, 0),
        (200, limits("1", "60s", "60"), 0),
        (200, limits("-1", "60s", "60"), 0),
        (200, limits("0", "1m0s", "60"), 1),
        (200, limits("0", "8.64s"), 8.64),
        (200, limits("0", "6m0.5s"), 360.5),
        (200, limits("0", "20ms"), 0.02),
        (200, limits("0", "1d2h"), 93_600),
        (200, limits("0", "12", "0"), 12),
        (200, limits("0", "in a while"), 0),
        (200, limits("0"), 0),
        (429, limits("0", "1m0s", "60"), 1),
        (429, {"Retry-After": "7", **limits("0", "1m0s", "60")}, 7),
    ],
)
def test_what_an_answer_asks_for(status, headers, seconds):
    assert pause(status, CIMultiDict(headers)) == pytest.approx(seconds)


def test_a_date_is_the_time_until_then():
    then = datetime.now(UTC) + timedelta(seconds=30)
    told = retry_after({"Retry-After": format_datetime(then, usegmt=True)})
    assert told is not None
    assert 25 < told <= 30
    assert retry_after({"Retry-After": format_datetime(then - timedelta(hours=1))}) == 0
