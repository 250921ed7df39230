"""How long answers are: learned for each caller and model, from those that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from .demand import MODEL

if TYPE_CHECKING:
    from proxy.plugin import ChatRequest

PAIRS = 10_000
"""Callers with their models that are remembered."""

WEIGHT = 0.2
"""Of the newest answer in the average; half of it is of the last three."""

FORGETTING = 0.05
"""How far each shorter answer moves the longest towards the average."""


class Estimate(NamedTuple):
    """Tokens of a request with its answer."""

    expected: int
    most: int


class _Seen(NamedTuple):
    average: float
    longest: float


class Outputs:
    """Expects of an answer what those before it were like."""

    def __init__(self, first: int, *, reserve_most: bool) -> None:
        self._first = _Seen(first, first)
        self._reserve_most = reserve_most
        self._seen: LRUCache[tuple[str, str], _Seen] = LRUCache(PAIRS)

    def estimate(self, request: ChatRequest, prompt: int) -> Estimate:
        """The tokens of a request whose prompt has so many."""
        seen = self._seen.get(_key(request), self._first)
        cap, choices = _cap(request), _choices(request)
        average = seen.average if cap is None else min(seen.average, cap)
        most = seen.longest if cap is None else cap
        expected = prompt + round(choices * average)
        if not self._reserve_most:
            return Estimate(expected, expected)
        return Estimate(expected, max(expected, prompt + round(choices * most)))

    def learn(self, request: ChatRequest, tokens: int) -> None:
        """Take notice of the length of an answer."""
        key, length = _key(request), tokens / _choices(request)
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(length, length)
            return
        average = seen.average + WEIGHT * (length - seen.average)
        fading = seen.longest - FORGETTING * (seen.longest - average)
        self._seen[key] = _Seen(average, max(length, fading))


def _key(request: ChatRequest) -> tuple[str, str]:
    return request.caller.id, request.model[:MODEL]


def _cap(request: ChatRequest) -> int | None:
    """The longest answer that the client wants."""
    wanted = [request.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((each for each in wanted if type(each) is int and each > 0), None)


def _choices(request: ChatRequest) -> int:
    n = request.get("n")
    return n if type(n) is int and n > 0 else 1
