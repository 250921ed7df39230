"""What `dragoman faq` says: how a question is decided, and what was nearly answered."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .entries import SYSTEM_CHARACTERS, FaqError, load
from .locales import in_language
from .matching import Index
from .near import decode, hashed, key
from .question import Question
from .reviewed import Verdict, add, beside, counts
from .semantic import TRIED_FOR, SemanticTier
from .wilson import interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from proxy.plugin import Services

    from .entries import Faq, Scope
    from .options import FaqOptions
    from .reading import Reading


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Who asks, and whom; None fits every scope."""

    model: str | None = None
    caller: str | None = None
    system: str | None = None

    def within(self, scope: Scope) -> bool:
        return (
            _fits(self.model, scope.models)
            and _fits(self.caller, scope.callers)
            and (
                self.system is None
                or scope.system is None
                or scope.system.search(self.system[:SYSTEM_CHARACTERS]) is not None
            )
        )


def _fits(name: str | None, patterns: tuple[str, ...]) -> bool:
    return name is None or not patterns or any(fnmatchcase(name, each) for each in patterns)


def decided(options: FaqOptions, text: str, circumstances: Circumstances) -> Iterator[str]:
    """How a question is decided, step by step.  FaqError if the file cannot be used."""
    if options.file is None:
        yield "there is no file of questions"
        return
    index = Index(load(options.file), options.threshold, lexical=options.lexical)
    asked, now = Question(text), datetime.now(UTC)
    steps: list[str] = []
    decision = index.find(asked, circumstances.within, now, steps.append)
    if options.semantic.embedder and decision.reason in TRIED_FOR:
        tier = SemanticTier(options.semantic, logging.getLogger(__name__))
        meant = tier.explained(asked, index, circumstances.within, now, steps.append).decision
        if options.semantic.mode == "serve":
            decision = meant
        else:
            steps.append("semantic: it only records, as semantic.mode says")
    yield from steps
    if decision.entry is not None:
        yield f"answered by {decision.entry.id!r}: {in_language(decision.entry.answer, asked, '')}"
        return
    yield f"not answered: {decision.reason}"
    for near in index.near(asked, circumstances.within):
        veto = near.veto or "nothing"
        yield (
            f"near: {near.known.entry.id!r} asks {near.known.question.text!r}, "
            f"score {near.score:.3f}; against it: {veto}"
        )


async def reviewed(faq: Faq, verdicts: Sequence[Verdict], services: Services) -> list[str]:
    """The near hits of each entry, the most frequent first, and how sure the tiers are."""
    ids = [entry.id for entry in faq.entries]
    done = {(each.entry, hashed(Question(each.question), services.secret)) for each in verdicts}
    values = await services.store.get_many([key(each) for each in ids])
    lines = []
    for entry, value in zip(ids, values, strict=True):
        near = sorted(decode(value), key=lambda each: -each["count"])
        left = [each for each in near if (entry, each["hash"]) not in done]
        if left:
            lines += [f"{entry}:", *(f"  {_line(each)}" for each in left)]
    if not lines:
        shared = services.store.is_shared
        where = "" if shared else "; only a shared store keeps them for this command"
        lines = [f"no near hits{where}"]
    return [*lines, *_how_sure(verdicts)]


def _line(near: dict[str, Any]) -> str:
    asked = repr(near["question"]) if "question" in near else near["hash"]
    tier, veto = near.get("tier"), near.get("veto") or "nothing"
    how = f"answered by the {tier} tier as" if tier else "nearly"
    against = "" if tier else f"; against it: {veto}"
    return (
        f"{near['count']} x {asked}, {how} {near.get('alias', '')!r}, "
        f"score {near.get('score')}{against}"
    )


def _how_sure(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for tier, (accepted, total) in counts(verdicts).items():
        low, _ = interval(accepted, total)
        yield (
            f"{tier} tier: {accepted} accepted, {total - accepted} rejected; its precision is at "
            f"least {low:.3f} (95 %)"
        )


async def judged(
    reading: Reading, services: Services, entry: str, text: str, *, accepted: bool
) -> list[str]:
    """Write a verdict beside the FAQ.  FaqError if the FAQ could not be used with it."""
    if entry not in {each.id for each in reading.index.faq.entries}:
        raise FaqError([f"{reading.path}: there is no entry {entry!r}"])
    near = decode(await services.store.get(key(entry)))
    own = hashed(Question(text), services.secret)
    seen = next((each for each in near if each["hash"] in (text, own)), {})
    if seen.get("hash") == text:
        if "question" not in seen:
            raise FaqError([f"only the hash of {text} is kept: give the question itself"])
        text = seen["question"]
    verdict = Verdict(entry, text, accepted, seen.get("tier") or "")
    await asyncio.to_thread(_keep, reading.path, verdict)
    what = "an alias" if accepted else "a negative"
    return [f"{text!r} is {what} of {entry!r} now: {beside(reading.path)}"]


def _keep(path: Path, verdict: Verdict) -> None:
    """Write it down, if the FAQ can be used with it, and it changes anything."""
    (entry,) = (each for each in load(path, [verdict]).entries if each.id == verdict.entry)
    phrases = entry.phrases if verdict.accepted else entry.negatives
    if verdict.normal not in {Question(phrase).normal for phrase in phrases}:
        raise FaqError([f"{path} itself says otherwise of {verdict.question!r}: change it there"])
    add(path, verdict)
