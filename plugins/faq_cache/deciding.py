"""Whether the entry that is nearest in meaning answers: the rules of the semantic tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .entries import missing, unwanted
from .matching import Decision, Known, same, silent
from .meaning import objections
from .spaces import NEAREST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from .matching import Index, InScope, Tell
    from .question import Question
    from .spaces import Neighbour


@dataclass(frozen=True, slots=True)
class Found:
    """What the tier says of a question, and what it was compared with."""

    decision: Decision
    neighbour: Neighbour | None = None
    needed: float = 0.0


def decided(
    neighbours: Sequence[Neighbour],
    asked: Question,
    index: Index,
    in_scope: InScope,
    now: datetime,
    margin: float,
    tell: Tell = silent,
) -> Found:
    """The nearest entry in scope, if it is near enough, alone, and nothing speaks against it."""
    fits = [n for n in neighbours if in_scope(n.entry.scope) and not n.entry.expired(now)]
    if not fits:
        return Found(Decision("scope"))
    best = fits[0]
    # If all others that were looked at are out of scope, the next is no nearer than they are.
    rest = neighbours[-1].cosine if len(neighbours) == NEAREST else -1.0
    second = fits[1].cosine if len(fits) > 1 else rest
    needed = best.needed(asked)
    objection = _objection(best, best.cosine - second - margin, needed, asked, index)
    tell(
        f"semantic: {best.entry.id!r} asks {best.question.text!r}, cosine {best.cosine:.3f} of "
        f"{needed:.3f}, the next {second:.3f}: {objection or 'accepted'}"
    )
    known = Known.of(best.entry, best.question)
    decision = Decision(objection or "hit", "" if objection else "semantic", known, best.cosine)
    return Found(decision, best, needed)


def _objection(best: Neighbour, ahead: float, needed: float, asked: Question, index: Index) -> str:
    """What speaks against the nearest entry; empty if nothing does."""
    entry = best.entry
    tests: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("cosine", lambda: best.cosine < needed),
        ("margin", lambda: ahead < 0),
        ("negative", lambda: best.negative >= best.cosine),
        ("negative", lambda: any(same(asked, each) for each in index.negatives(entry))),
        ("must", lambda: missing(entry, asked) is not None),
        ("must_not", lambda: unwanted(entry, asked) is not None),
    )
    first = next((name for name, holds in tests if holds()), "")
    vetoed = (f"veto_{name}" for name in objections(asked, best.question, index.antonyms))
    return first or next(vetoed, "")
