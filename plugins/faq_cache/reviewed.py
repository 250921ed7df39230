"""What an operator has said of near hits: a file beside the FAQ, one verdict a line.

The FAQ file is the operator's and is never written.  A line is added in one step, so that processes
that read it never see half of it; they look at it once a second.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .question import Question

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Verdict:
    """Is a question one that an entry answers?"""

    entry: str
    question: str
    accepted: bool
    tier: str = ""
    """Which tier would have answered it; empty if none."""

    @property
    def normal(self) -> str:
        return Question(self.question).normal


def beside(file: Path) -> Path:
    """Where the verdicts on a FAQ file are: faq.reviewed.jsonl for faq.toml."""
    return file.with_name(f"{file.stem}.reviewed.jsonl")


def read(file: Path) -> list[Verdict]:
    """The last verdict on each question of each entry.  ValueError names a line that is none."""
    try:
        lines = beside(file).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    last: dict[tuple[str, str], Verdict] = {}
    for number, line in enumerate(lines, 1):
        try:
            verdict = msgspec.json.decode(line, type=Verdict)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{beside(file)}:{number}: {error}") from None
        last[verdict.entry, verdict.normal] = verdict
    return list(last.values())


def add(file: Path, verdict: Verdict) -> None:
    """Write a verdict down."""
    line = msgspec.json.encode(verdict) + b"\n"
    descriptor = os.open(beside(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def counts(verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """How many answers of each tier were accepted, of how many that there is a verdict on."""
    seen = Counter((each.tier, each.accepted) for each in verdicts if each.tier)
    return {
        tier: (seen[tier, True], seen[tier, True] + seen[tier, False])
        for tier in sorted({tier for tier, _ in seen})
    }
