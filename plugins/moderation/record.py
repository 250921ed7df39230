"""What is told about checks: metrics, and the span of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.plugin import note

if TYPE_CHECKING:
    from proxy.plugin import Services

    from .options import Stage
    from .verdicts import CheckFailed, Verdict


class Record:
    """Counts verdicts, and notes what was found."""

    def __init__(self, services: Services, *, expose_categories: bool) -> None:
        self._expose_categories = expose_categories
        self._verdicts = services.metrics.counter(
            "moderation_verdicts", "Requests and answers by what was done", ["stage", "action"]
        )

    def found(self, stage: Stage, verdict: Verdict) -> None:
        self._verdicts.labels(stage, verdict.action).inc()
        if verdict:
            names = {f"moderation_{stage}": verdict.action}
            note(**names, moderation_categories=list(verdict.categories))

    def failed(self, stage: Stage, failure: CheckFailed) -> None:
        self._verdicts.labels(stage, "error").inc()
        note(moderation_error=f"{stage}: {failure}")

    def header(self, stage: Stage, verdict: Verdict) -> str:
        """The value of `x-dragoman-moderation`."""
        categories = ",".join(verdict.categories)
        return f"{stage}; categories={categories}" if self._expose_categories else stage
