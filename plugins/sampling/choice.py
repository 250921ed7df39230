"""Which temperature a request gets: Thompson sampling, with a share of blind tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tallies import Tallies, Tally, fading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from .options import Tune


@dataclass(frozen=True, slots=True)
class Arm:
    """A temperature, and what is believed of it."""

    temperature: float
    alpha: float
    beta: float
    feedback: int
    """How many answers have had feedback."""
    chosen: int
    score: float | None
    """The mean of all scores, -1 to 1; None if there is none."""

    @property
    def expected(self) -> float:
        """The mean of the posterior, as a score."""
        return 2 * self.alpha / (self.alpha + self.beta) - 1


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a scene, as of now."""

    epoch: str
    arms: Sequence[Arm]
    lacking: Sequence[Arm]
    """Those that have had too little feedback to be judged."""

    @classmethod
    def of(cls, tune: Tune, known: Tallies) -> View:
        fade = fading(tune.half_life)
        arms = [_arm(each, known, fade) for each in tune.temperature]
        return cls(known.epoch, arms, [arm for arm in arms if arm.feedback < tune.min_feedback])

    @property
    def best(self) -> Arm | None:
        """The one with the highest mean, of those that can be judged; None if none can."""
        judged = [arm for arm in self.arms if arm not in self.lacking]
        return max(judged, key=lambda arm: arm.expected, default=None)

    def choose(self, tune: Tune, draw: Random) -> float | None:
        """The temperature for the next request; None if it is frozen and nothing is known."""
        if tune.freeze:
            return None if self.best is None else self.best.temperature
        if self.lacking:
            return draw.choice(self.lacking).temperature
        if draw.random() < tune.explore:
            return draw.choice(self.arms).temperature
        return max(self.arms, key=lambda arm: draw.betavariate(arm.alpha, arm.beta)).temperature


def _arm(temperature: float, known: Tallies, fade: float) -> Arm:
    name = str(temperature)
    tally = known.tallies.get(name, Tally())
    left = fade ** max(0, known.number - tally.at)
    return Arm(
        temperature,
        alpha=1 + tally.good * left,
        beta=1 + tally.bad * left,
        feedback=tally.answers,
        chosen=known.chosen.get(name, 0),
        score=2 * tally.total / tally.answers - 1 if tally.answers else None,
    )
