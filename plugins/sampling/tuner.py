"""Chooses temperatures by what is known here, and keeps that in step with all processes."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from proxy.plugin import Scripting, StoreUnavailable

from .choice import View
from .scripts import SharedShelf
from .tallies import Chosen, LocalShelf, fading
from .trials import Trial, Trials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.plugin import Services

    from .options import Feedback, Scene, Tune
    from .tallies import Learned, Shelf, Tallies


class Tuner:
    """The scenes that learn, and what is known of each.

    Requests are served from a view in memory.  Where processes share a Redis, it is read anew every
    few seconds, in one script that also writes down how often each temperature was chosen.
    """

    def __init__(self, scenes: Sequence[Scene], options: Feedback, services: Services) -> None:
        self.scenes: Mapping[str, Tune] = {s.name: s.tune for s in scenes if s.tune is not None}
        self.views: dict[str, View] = {}
        self.trials = Trials(services, options.ttl)
        self.draw = Random()
        self._services = services
        self._refresh = options.refresh
        self._shelf, self._is_shared = _shelf(services, options.ttl)
        self._chosen: Counter[tuple[str, str]] = Counter()
        self._unwritten: Chosen | None = None
        self._syncing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        counter, labels = services.metrics.counter, ["scene", "temperature"]
        self._answers = counter(
            "sampling_chosen", "Answers made with a temperature that was tuned.", labels
        )
        self._feedback = counter("sampling_feedback", "Answers that have had feedback.", labels)
        self._score = counter(
            "sampling_score", "The sum of their scores, from 0 (worst) to 1 (best).", labels
        )

    async def start(self) -> None:
        if self.scenes:
            await self._sync_if_possible()
            if self._is_shared:
                self._wind()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_shared and self._chosen:
            await self._sync_if_possible()

    # ---- for requests

    def choose(self, scene: str) -> Trial | None:
        """A temperature for a request; None if nothing is known of the scene."""
        view = self.views.get(scene)
        temperature = None if view is None else view.choose(self.scenes[scene], self.draw)
        if view is None or temperature is None:
            return None
        return Trial(scene, temperature, view.epoch)

    async def answered(self, caller: str, response_id: str, trial: Trial) -> None:
        """An answer was made with the temperature that was chosen."""
        self._chosen[trial.scene, trial.arm] += 1
        self._answers.labels(trial.scene, trial.arm).inc()
        if response_id:
            await self.trials.write(caller, response_id, trial)

    # ---- for feedback

    async def learn(self, trial: Trial, score: float) -> Learned | None:
        """Take a score, -1 to 1.  None if the scene learns nothing (any more).  StoreUnavailable."""
        tune = self.scenes.get(trial.scene)
        if tune is None or tune.freeze:
            return None
        share = (score + 1) / 2
        learned = await self._shelf.learn(trial, share, fading(tune.half_life))
        before = View.of(tune, learned.before).best
        best = self._know(trial.scene, learned.after).best
        if best is not None and (before is None or best.temperature != before.temperature):
            self._services.log.info(
                "scene %s: the best temperature is %s (expected score %+.2f); it was %s",
                trial.scene,
                best.temperature,
                best.expected,
                "unknown" if before is None else before.temperature,
            )
        if learned.outcome == 1:
            self._feedback.labels(trial.scene, trial.arm).inc()
            self._score.labels(trial.scene, trial.arm).inc(share)
        return learned

    # ---- for operators

    async def reset(self, scene: str) -> None:
        """Forget what is known of a scene.  StoreUnavailable."""
        async with self._syncing:
            self._know(scene, await self._shelf.reset(scene))

    async def sync(self) -> None:
        """Write down what was chosen here, and read what is known.  StoreUnavailable."""
        async with self._syncing:
            if self._unwritten is None and self._chosen:
                self._unwritten = Chosen(secrets.token_hex(8), self._chosen)
                self._chosen = Counter()
            names = list(self.scenes)
            known = await self._shelf.sync(names, self._unwritten)
            self._unwritten = None
            for scene, tallies in zip(names, known, strict=True):
                self._know(scene, tallies)
        await self.trials.flush()

    def _know(self, scene: str, tallies: Tallies) -> View:
        view = self.views[scene] = View.of(self.scenes[scene], tallies)
        return view

    async def _sync_if_possible(self) -> None:
        try:
            await self.sync()
        except StoreUnavailable:
            return  # what was known stays known

    def _wind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._refresh, self._look)

    def _look(self) -> None:
        if not self._syncing.locked():
            self._services.defer(self._sync_if_possible(), name="temperatures")
        self._wind()


def _shelf(services: Services, ttl: float) -> tuple[Shelf, bool]:
    store = services.store
    if store.is_shared and isinstance(store, Scripting):
        return SharedShelf(store, ttl), True
    return LocalShelf(ttl), False
