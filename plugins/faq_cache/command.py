"""What `dragoman faq` says: how a question is decided, and what was nearly answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .entries import SYSTEM_CHARACTERS, load
from .locales import in_language
from .matching import Index
from .near import decode, key
from .question import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.plugin import Store

    from .entries import Faq, Scope
    from .options import FaqOptions


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
    asked = Question(text)
    steps: list[str] = []
    decision = index.find(asked, circumstances.within, datetime.now(UTC), steps.append)
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


async def reviewed(faq: Faq, store: Store) -> list[str]:
    """The near hits of each entry, the most frequent first."""
    ids = [entry.id for entry in faq.entries]
    values = await store.get_many([key(each) for each in ids])
    lines = []
    for entry, value in zip(ids, values, strict=True):
        near = sorted(decode(value), key=lambda each: -each["count"])
        if near:
            lines += [f"{entry}:", *(f"  {_line(each)}" for each in near)]
    if not lines:
        where = "" if store.is_shared else "; only a shared store keeps them for this command"
        lines = [f"no near hits{where}"]
    return lines


def _line(near: dict[str, Any]) -> str:
    asked = repr(near["question"]) if "question" in near else near["hash"]
    veto = near.get("veto") or "nothing"
    return (
        f"{near['count']} x {asked}, nearly {near.get('alias', '')!r}, "
        f"score {near.get('score')}; against it: {veto}"
    )
