"""The circuit breaker."""

from __future__ import annotations

from proxy.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def breaker(clock):
    return Breaker(failures=3, window=10, pause=2, clock=clock)


def test_it_opens_after_failures_in_a_row_and_says_so_once():
    circuit = breaker(Clock())
    assert [circuit.failed() for _ in range(4)] == [False, False, True, False]
    assert circuit.is_open
    assert not circuit.allows()


def test_a_success_in_between_keeps_it_closed():
    circuit = breaker(Clock())
    circuit.failed()
    circuit.failed()
    circuit.succeeded()
    assert not circuit.failed()
    assert circuit.allows()


def test_failures_that_are_far_apart_do_not_open_it():
    clock = Clock()
    circuit = breaker(clock)
    for _ in range(5):
        assert not circuit.failed()
        clock.now += 6


def test_while_open_one_probe_is_let_through_each_pause():
    clock = Clock()
    circuit = breaker(clock)
    for _ in range(3):
        circuit.failed()
    clock.now += 2
    assert [circuit.allows(), circuit.allows()] == [True, False]
    clock.now += 2
    assert circuit.allows()


def test_a_probe_that_succeeds_closes_it():
    clock = Clock()
    circuit = breaker(clock)
    for _ in range(3):
        circuit.failed()
    clock.now += 2
    assert circuit.allows()
    circuit.succeeded()
    assert [circuit.allows(), circuit.allows()] == [True, True]
