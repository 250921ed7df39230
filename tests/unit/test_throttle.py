"""Things that are said once a minute."""

from __future__ import annotations

from proxy.throttle import Throttle


def test_a_key_is_allowed_once_and_again_after_its_time():
    now = [0.0]
    throttle = Throttle(60, clock=lambda: now[0])
    assert [throttle.allows("a", 1), throttle.allows("a", 1)] == [True, False]
    assert throttle.allows("a", 2)
    now[0] = 61
    assert throttle.allows("a", 1)


def test_it_remembers_a_bounded_number_of_keys():
    throttle = Throttle(60, clock=lambda: 0.0)
    for key in range(5_000):
        throttle.allows(key)
    assert len(throttle._said) <= 1_000
