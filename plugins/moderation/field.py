"""The field `moderation` of a chat completion, answered as OpenAI does.

`{"model": ..., "policy": {"input": {"mode": "score"}, "output": {"mode": "block"}}}` in a request
asks for `{"input": ..., "output": ...}` in the answer; of a stream, in a chunk of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.plugin import Chunk

from .verdicts import CLEAN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from proxy.plugin import ChatRequest

    from .options import ModerationOptions, Stage
    from .verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants to know."""

    options: ModerationOptions
    policy: Mapping[str, Any]

    def blocks(self, stage: Stage) -> bool:
        """Is what is flagged to be blocked, whatever the operator does with it?"""
        mode = self.policy.get(stage)
        return isinstance(mode, Mapping) and mode.get("mode") == "block"

    def told(self, said: Verdict, answers: Sequence[Verdict]) -> dict[str, Any]:
        """The `moderation` of an answer: about the input, and about each choice."""
        return {"input": self._stage("input", [said]), "output": self._stage("output", answers)}

    def _stage(self, stage: Stage, verdicts: Sequence[Verdict]) -> dict[str, Any]:
        if not self.options.checks(stage):
            return _error("not_moderated", f"The {stage} is not moderated here.")
        if not all(verdict.is_complete for verdict in verdicts):
            return _error("moderation_unavailable", f"The {stage} could not be checked.")
        model = self._model(stage)
        results = [_result(model, verdict) for verdict in verdicts]
        return {"type": "moderation_results", "model": model, "results": results}

    def _model(self, stage: Stage) -> str:
        """The names of the models that judge, and `dragoman` if there are only lists."""
        names = [each.title for each in self.options.classifiers if stage in each.stages]
        api = self.options.api
        if api is not None and stage in api.stages:
            names.append(api.model)
        return "+".join(names) or "dragoman"


def asked(options: ModerationOptions, request: ChatRequest) -> Asked | None:
    """What a client wants to know from us."""
    given = request.get("moderation") if options.field == "answer" else None
    if not isinstance(given, Mapping):
        return None
    policy = given.get("policy")
    return Asked(options, policy if isinstance(policy, Mapping) else {})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client is to be told of one answer."""

    asked: Asked | None
    said: Verdict
    """About the input."""
    found: dict[int, Verdict] = field(default_factory=dict)
    """About each choice, as far as it has been checked."""

    @property
    def strict(self) -> bool:
        return self.asked is not None and self.asked.blocks("output")

    def add(self, choice: Any, verdict: Verdict) -> None:
        index = choice if isinstance(choice, int) else 0
        self.found[index] = self.found.get(index, CLEAN) + verdict

    def told(self) -> dict[str, Any]:
        """The field `moderation` of the answer, if the client has asked for it."""
        if self.asked is None:
            return {}
        choices = range(max(self.found, default=0) + 1)
        answers = [self.found.get(index, CLEAN) for index in choices]
        return {"moderation": self.asked.told(self.said, answers)}


async def told(wanted: Wanted, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """The stream with the verdicts in a chunk of its own, behind the text and before the usage."""
    is_told, last = False, None
    async for chunk in chunks:
        is_told = is_told or "moderation" in chunk.body
        if not is_told and chunk.body.get("usage") and not chunk.choices:
            is_told = True
            yield Chunk.of({**frame_of(chunk), "choices": [], **wanted.told(), "usage": None})
        yield chunk
        last = chunk
    if last is not None and not is_told:
        yield Chunk.of({**frame_of(last), "choices": [], **wanted.told()})


def frame_of(like: Chunk) -> dict[str, Any]:
    """What is the same in all chunks of a stream."""
    return {k: v for k, v in like.body.items() if k not in ("choices", "usage", "obfuscation")}


def _result(model: str, verdict: Verdict) -> dict[str, Any]:
    scores = verdict.scores.items()
    return {
        "type": "moderation_result",
        "model": model,
        "flagged": any(score.is_flagged for _, score in scores),
        "categories": {name: score.is_flagged for name, score in scores},
        "category_scores": {name: score.value for name, score in scores},
        "category_applied_input_types": {name: sorted(score.seen) for name, score in scores},
    }


def _error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}
