"""The classifiers that the operator has named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .classifier import Classification
from .detoxify_model import DetoxifyModel
from .english import English
from .onnx_model import OnnxModel
from .verdicts import CLEAN, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import Services

    from .classifier import Classifier
    from .options import ClassifierOptions, ModerationOptions, Stage


class Classifiers:
    """Some of them, asked one after the other until one blocks."""

    def __init__(self, classifications: Sequence[Classification]) -> None:
        self._classifications = classifications

    @classmethod
    def of(cls, config: ModerationOptions, services: Services) -> Classifiers:
        return cls(
            [
                Classification(_made(options), options, services, entries=config.cache)
                for options in config.classifiers
            ]
        )

    def __bool__(self) -> bool:
        return bool(self._classifications)

    def at(self, stage: Stage) -> Classifiers:
        return Classifiers([each for each in self._classifications if stage in each.options.stages])

    def early(self, *, early: bool) -> Classifiers:
        """Those that come before the upstream's call whatever the order, or those that need not."""
        return Classifiers([e for e in self._classifications if e.options.comes_first == early])

    async def start(self) -> None:
        for each in self._classifications:
            await each.start()

    async def stop(self) -> None:
        for each in self._classifications:
            await each.stop()

    async def check(self, text: str) -> Verdict:
        """What they find.  CheckFailed if one has no verdict."""
        verdict = CLEAN
        for each in self._classifications:
            verdict += await each.check(text)
            if verdict.blocks:
                break
        return verdict


def _made(options: ClassifierOptions) -> Classifier:
    if options.use == "english":
        return English()
    assert options.path is not None
    if options.use == "onnx":
        return OnnxModel(options.path, options.sha256)
    assert options.sha256 is not None
    return DetoxifyModel(options.path, options.sha256)
