"""What the user has ordered for good, gathered from the part of a chat that is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

from . import pins, retraction
from .messages import role_of, text_of
from .pins import Pin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .history import History


@dataclass(frozen=True, slots=True)
class Reading:
    """What one user message orders, and whether it takes back what was said before it."""

    orders: tuple[tuple[str, bool], ...]
    retraction: str | None


class Instructions:
    """Reads each message once; what it found is remembered under the message's digest."""

    def __init__(self, entries: int = 20_000) -> None:
        self._readings: LRUCache[bytes, Reading] = LRUCache(entries)

    def standing(
        self,
        history: History,
        cut: int,
        digests: Mapping[int, bytes],
        *,
        tokens: Callable[[str], int],
        budget: int,
    ) -> list[Pin]:
        """The orders given before the cut, in the user's words, without those taken back.

        Who takes something back takes back the orders of the message before; the sentence that does
        it stands among the orders in their place, for it may mean more than they said.
        """
        found: dict[int, list[Pin]] = {}
        before: int | None = None
        for index in range(history.head, cut):
            message = history.messages[index]
            if role_of(message) != "user":
                continue
            reading = self._read(digests[index], text_of(message))
            turn, cost = history.turns[index], history.costs[index]
            if reading.retraction is not None and before in found:
                del found[before]
                found[index] = [Pin(turn, reading.retraction, cost, is_negative=True)]
            for text, is_negative in reading.orders:
                if text != reading.retraction:
                    found.setdefault(index, []).append(Pin(turn, text, cost, is_negative))
            before = index
        orders = [pin for pins_of_one in found.values() for pin in pins_of_one]
        return pins.select(orders, tokens=tokens, budget=budget)

    def takes_back(self, digest: bytes, text: str) -> bool:
        """Does this user message take back what was said before it?"""
        return self._read(digest, text).retraction is not None

    def _read(self, digest: bytes, text: str) -> Reading:
        reading = self._readings.get(digest)
        if reading is None:
            reading = Reading(tuple(pins.find(text)), retraction.retracts(text))
            self._readings[digest] = reading
        return reading
