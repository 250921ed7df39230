"""Classifiers: scores of a text by category, found in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .known import Known
from .verdicts import CLEAN, CheckFailed, Finding, Score, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from proxy.plugin import Services

    from .options import ClassifierOptions


class Part(NamedTuple):
    """A stretch of a text, and the score of each category in it, from 0 to 1."""

    start: int
    end: int
    scores: Mapping[str, float]


class Classifier(Protocol):
    """Judges texts.  Its methods block: they are called in a thread, one at a time."""

    @property
    def labels(self) -> Sequence[str]:
        """The categories that it gives scores for; known once it is loaded."""

    def load(self) -> None:
        """Make it ready.  OSError, ImportError or ValueError if that fails."""

    def parts(self, text: str) -> Iterable[Part]:
        """The scores of a text, part by part: no more is asked for when nobody waits any more."""


class Classification:
    """What a classifier says about texts, by the operator's thresholds and actions.

    Texts wait for it in a queue.  Where that is full, or a text has waited too long, there is no
    verdict.
    """

    def __init__(
        self,
        classifier: Classifier,
        options: ClassifierOptions,
        services: Services,
        *,
        entries: int,
    ) -> None:
        self._classifier = classifier
        self.options = options
        self._name = options.title
        self._limits = {limit.name: limit for limit in options.limits}
        self._known = Known(entries)
        self._log = services.log
        self._thread: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._checks = services.metrics.counter(
            "moderation_classified", "Texts for classifiers", ["classifier", "outcome"]
        )

    async def start(self) -> None:
        """Load it.  ValueError if it does not know a category that is to be looked for."""
        await asyncio.to_thread(self._classifier.load)
        if unknown := sorted(set(self._limits).difference(self._classifier.labels)):
            known = ", ".join(self._classifier.labels)
            raise ValueError(f"{self._name} has no category {unknown[0]!r}; it has {known}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"classifier {self._name}")

    async def stop(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def check(self, text: str) -> Verdict:
        """The verdict about a text.  CheckFailed if there is none."""
        if not text.strip():
            return CLEAN
        if (verdict := self._known.get(text)) is not None:
            self._count("known")
            return verdict
        if self._waiting >= self.options.queue:
            self._count("refused")
            raise CheckFailed(f"too many texts wait for {self._name}")
        try:
            parts = await self._scored(text)
        except TimeoutError:
            self._count("late")
            raise CheckFailed(f"{self._name} took too long") from None
        except Exception as error:
            self._count("failed")
            self._log.warning("the classifier %s: %s", self._name, type(error).__name__)
            raise CheckFailed(f"{self._name} failed") from error
        self._count("answered")
        verdict = self._read(parts)
        self._known.put(text, verdict)
        return verdict

    async def _scored(self, text: str) -> Sequence[Part]:
        assert self._thread is not None
        loop = asyncio.get_running_loop()
        is_awaited = True

        def work() -> list[Part]:
            return list(takewhile(lambda _: is_awaited, self._classifier.parts(text)))

        def done(_: Future[list[Part]]) -> None:  # in that thread, or in this one if cancelled
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._done)

        self._waiting += 1
        job = self._thread.submit(work)
        job.add_done_callback(done)
        try:
            async with asyncio.timeout(self.options.timeout):
                return await asyncio.wrap_future(job)
        finally:
            is_awaited = False

    def _done(self) -> None:
        self._waiting -= 1

    def _count(self, outcome: str) -> None:
        self._checks.labels(self._name, outcome).inc()

    def _read(self, parts: Sequence[Part]) -> Verdict:
        findings: list[Finding] = []
        scores: dict[str, Score] = {}
        for part in parts:
            for name, value in part.scores.items():
                limit = self._limits.get(name)
                found = limit is not None and value >= limit.threshold
                if found and limit is not None:
                    span = (part.start, part.end) if limit.action == "mask" else None
                    findings.append(Finding(name, limit.action, span))
                score = Score(value, found)
                scores[name] = scores[name].merged(score) if name in scores else score
        return Verdict(tuple(dict.fromkeys(findings)), scores)
