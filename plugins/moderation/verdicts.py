"""What a check says about a text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from proxy.plugin import APIError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .options import Action

Span: TypeAlias = tuple[int, int]


class CheckFailed(Exception):
    """There is no verdict: the check failed, or took too long."""


class ModerationUnavailable(APIError):
    """What a client gets where nothing may pass unchecked, and the check fails."""

    status, code = 503, "moderation_unavailable"

    def __init__(self) -> None:
        super().__init__("The content could not be checked. Try again soon.")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one category, and where, if that is to be masked."""

    category: str
    action: Action
    span: Span | None = None


class Score(NamedTuple):
    """How much of a category there is, from 0 to 1, and whether that is too much."""

    value: float
    is_flagged: bool
    seen: frozenset[str] = frozenset({"text"})
    """What was looked at: text, image."""

    def merged(self, other: Score) -> Score:
        return Score(
            max(self.value, other.value),
            self.is_flagged or other.is_flagged,
            self.seen | other.seen,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found in a text."""

    findings: tuple[Finding, ...] = ()
    scores: Mapping[str, Score] = field(default_factory=lambda: NONE)
    """Of each category that was looked for, found or not, as far as checks tell it."""
    is_complete: bool = True
    """Has every check said what it finds?"""

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __add__(self, other: Verdict) -> Verdict:
        if other is CLEAN:
            return self
        return Verdict(
            self.findings + other.findings,
            merged(self.scores, other.scores),
            self.is_complete and other.is_complete,
        )

    @property
    def blocks(self) -> bool:
        return any(finding.action == "block" for finding in self.findings)

    @property
    def action(self) -> Literal["pass", "flag", "mask", "block"]:
        """The gravest of what is to be done."""
        wanted = {finding.action for finding in self.findings}
        for action in ("block", "mask", "flag"):
            if action in wanted:
                return action
        return "pass"

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.category for finding in self.findings))

    def strict(self) -> Verdict:
        """The same, where what is flagged is blocked."""
        if all(each.action != "flag" for each in self.findings):
            return self
        findings = (replace(f, action="block") if f.action == "flag" else f for f in self.findings)
        return replace(self, findings=tuple(findings))

    def shifted(self, by: int) -> Verdict:
        """The same about a text that has so many characters more in front."""
        findings = tuple(
            each
            if each.span is None
            else replace(each, span=(each.span[0] + by, each.span[1] + by))
            for each in self.findings
        )
        return replace(self, findings=findings)

    @property
    def masked(self) -> list[Span]:
        return [f.span for f in self.findings if f.action == "mask" and f.span is not None]


NONE: Mapping[str, Score] = MappingProxyType({})
CLEAN = Verdict()
UNKNOWN = Verdict(is_complete=False)
"""A check has failed, and that is no reason to stop."""


def total(verdicts: Iterable[Verdict]) -> Verdict:
    return sum(verdicts, CLEAN)


def merged(some: Mapping[str, Score], more: Mapping[str, Score]) -> Mapping[str, Score]:
    both = dict(some)
    for name, score in more.items():
        both[name] = both[name].merged(score) if name in both else score
    return both


def mask(text: str, spans: Iterable[Span]) -> str:
    """The text with asterisks at these places.  It is as long as it was."""
    characters = list(text)
    for start, end in spans:
        for index in range(max(start, 0), min(end, len(text))):
            if not text[index].isspace():
                characters[index] = "*"
    return "".join(characters)
