"""What feedback has said of each temperature of a scene: sums in which old feedback fades.

A share of success between 0 and 1 (the score -1 to 1, moved) adds to the two parameters of a Beta
distribution, the one by the share and the other by the rest, as Bernoulli trials add 1 to one of
them (Chapelle and Li 2011, algorithm 2); a share is what the coin of Agrawal and Goyal (2012,
arXiv:1111.1797, algorithm 2) would add on average.  At each feedback all sums of the scene shrink by
one factor, so that what is not tried becomes uncertain again: discounted Thompson sampling (Raj and
Kalyani 2017, arXiv:1707.09727).  Without feedback a temperature has the prior, Beta(1, 1).

`scripts` says the same in Lua, operation by operation, so that both sum up alike to the last bit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .trials import Trial

REMEMBERED = 100_000
"""Feedbacks that one process can still replace, where there is no Redis."""


def fading(half_life: int) -> float:
    """What one more feedback leaves of each sum."""
    return 0.5 ** (1 / half_life) if half_life else 1.0


class Tally(NamedTuple):
    """What feedback has said of one temperature."""

    good: float = 0.0
    """The sum of shares, faded."""
    bad: float = 0.0
    """The sum of what they lack to 1, faded."""
    at: int = 0
    """The number of the scene's feedback at which the sums were these."""
    answers: int = 0
    """How many answers have had feedback."""
    total: float = 0.0
    """The sum of all shares, not faded."""

    def added(self, share: float, number: int, fade: float) -> Tally:
        """With one more feedback, which has this number in its scene."""
        left = fade ** (number - self.at)
        good, bad = self.good * left + share, self.bad * left + (1 - share)
        return Tally(good, bad, number, self.answers + 1, self.total + share)

    def corrected(self, was: float, share: float, number: int, fade: float) -> Tally:
        """With another share in place of one that it has had, of that number in its scene."""
        change = (share - was) * fade ** (self.at - number)
        good, bad = max(0.0, self.good + change), max(0.0, self.bad - change)
        return Tally(good, bad, self.at, self.answers, self.total + (share - was))


@dataclass(frozen=True, slots=True)
class Tallies:
    """What is known of one scene.  Temperatures go by their names, as `str` writes them."""

    epoch: str = ""
    """Another one after each reset: what was answered before teaches nothing after it."""
    number: int = 0
    """How many answers have had feedback since then."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    """How many answers were made with each."""


class Learned(NamedTuple):
    """What became of a feedback."""

    outcome: int
    """1: it is new; 0: it has replaced an earlier one; -1: its answer is from before a reset."""
    before: Tallies
    after: Tallies


class Chosen(NamedTuple):
    """How many answers were made with each temperature of each scene; counted once by its id."""

    id: str
    counts: Mapping[tuple[str, str], int]


class Shelf(Protocol):
    """Where the tallies are.  Each method is one step; on Redis, all raise StoreUnavailable."""

    async def learn(self, trial: Trial, share: float, fade: float) -> Learned:
        """Take a feedback on an answer; if it has had one, the new one stands in its place."""

    async def sync(self, scenes: list[str], chosen: Chosen | None) -> list[Tallies]:
        """Add to what was chosen, and read what is known of these scenes."""

    async def reset(self, scene: str) -> Tallies:
        """Forget what is known of a scene."""


class _Given(NamedTuple):
    share: float
    number: int


class LocalShelf:
    """The tallies of one process, in its memory."""

    def __init__(self, ttl: float) -> None:
        self._scenes: dict[str, Tallies] = {}
        self._given: TTLCache[str, _Given] = TTLCache(REMEMBERED, ttl)

    async def learn(self, trial: Trial, share: float, fade: float) -> Learned:
        before = self._scenes.get(trial.scene, Tallies())
        if before.epoch != trial.epoch:
            return Learned(-1, before, before)
        tally, given = before.tallies.get(trial.arm), self._given.get(trial.id)
        is_new = given is None or tally is None or given.number > tally.at
        if is_new:
            number = before.number + 1
            tally = (tally or Tally()).added(share, number, fade)
            self._given[trial.id] = _Given(share, number)
        else:
            assert given is not None
            assert tally is not None
            number = before.number
            tally = tally.corrected(given.share, share, given.number, fade)
            self._given[trial.id] = _Given(share, given.number)
        tallies = {**before.tallies, trial.arm: tally}
        after = Tallies(before.epoch, number, tallies, before.chosen)
        self._scenes[trial.scene] = after
        return Learned(int(is_new), before, after)

    async def sync(self, scenes: list[str], chosen: Chosen | None) -> list[Tallies]:
        for (scene, arm), count in chosen.counts.items() if chosen else ():
            was = self._scenes.get(scene, Tallies())
            counts = {**was.chosen, arm: was.chosen.get(arm, 0) + count}
            self._scenes[scene] = Tallies(was.epoch, was.number, was.tallies, counts)
        return [self._scenes.get(scene, Tallies()) for scene in scenes]

    async def reset(self, scene: str) -> Tallies:
        self._scenes[scene] = Tallies(epoch=secrets.token_hex(8))
        return self._scenes[scene]
