"""What a check says about a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from proxy.plugin import APIError

if TYPE_CHECKING:
    from collections.abc import Iterable

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found in a text."""

    findings: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.findings + other.findings) if other else self

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

    @property
    def masked(self) -> list[Span]:
        return [f.span for f in self.findings if f.action == "mask" and f.span is not None]


CLEAN = Verdict()


def total(verdicts: Iterable[Verdict]) -> Verdict:
    return sum(verdicts, CLEAN)


def mask(text: str, spans: Iterable[Span]) -> str:
    """The text with asterisks at these places.  It is as long as it was."""
    characters = list(text)
    for start, end in spans:
        for index in range(max(start, 0), min(end, len(text))):
            if not text[index].isspace():
                characters[index] = "*"
    return "".join(characters)
