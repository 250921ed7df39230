"""The operator's lists: words in any spelling, and patterns that may not take long."""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import regex  # type: ignore[import-untyped]

from .automaton import Automaton, automaton
from .folding import folded, origins, skeleton, unmixed
from .verdicts import CLEAN, CheckFailed, Finding, Score, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from .automaton import AnyAutomaton
    from .options import Stage, WordList
    from .verdicts import Span

    Hit: TypeAlias = tuple[int, int, WordList]

PATTERN_SECONDS = 0.02
"""What all patterns together may take of one text; they hold up everything else meanwhile."""
LONG = 20_000
"""Characters from which on a text is searched in a thread."""

FOUND = Score(1.0, is_flagged=True)

# Scripts that are written without spaces: a word may begin and end anywhere.
_JOINED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)


class Rules:
    """What the lists of one stage find."""

    def __init__(self, lists: Sequence[WordList], stage: Stage) -> None:
        self._lists = [each for each in lists if stage in each.stages]
        self._patterns: list[tuple[Any, WordList]] = [
            (regex.compile(pattern), each) for each in self._lists for pattern in each.patterns
        ]
        self._words: AnyAutomaton[WordList] = Automaton(())
        self._skeletons: AnyAutomaton[WordList] = Automaton(())
        self._longest = 0

    def __bool__(self) -> bool:
        return bool(self._lists)

    async def start(self) -> None:
        """Read the files.  OSError or ValueError with its name if one cannot be read."""
        if any(each.words or each.files for each in self._lists):
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        words = [(folded(word).strip(), each) for each in self._lists for word in _words(each)]
        self._words = automaton(dict.fromkeys(words))
        self._skeletons = automaton(dict.fromkeys((skeleton(word), each) for word, each in words))
        self._longest = max((len(word) for word, _ in words), default=0)

    async def check(self, text: str) -> Verdict:
        """What is found.  CheckFailed if a pattern takes too long."""
        if not self._lists:
            return CLEAN
        return self.search(text) if len(text) < LONG else await asyncio.to_thread(self.search, text)

    def search(self, text: str) -> Verdict:
        findings = [*self._by_words(text), *self._by_patterns(text)]
        if not findings:
            return CLEAN
        return Verdict(tuple(findings), {each.category: FOUND for each in findings})

    def _by_words(self, text: str) -> list[Finding]:
        if not self._words:
            return []
        plain = folded(text)
        hits = self._once(_whole(plain, self._words.find(plain)))
        letters, mixed = unmixed(plain)
        if mixed:
            found = _whole(letters, self._beside(mixed, letters))
            hits += self._once(hit for hit in found if _meets(hit, mixed))
        places = origins(text) if hits else []
        return [
            Finding(each.name, each.action, _span(places, start, end, len(text)))
            for start, end, each in hits
        ]

    def _beside(self, spans: Sequence[Span], text: str) -> Iterator[Hit]:
        """The skeletons that are at one of these places or near, and perhaps others."""
        start = stop = 0
        for first, last in (*spans, (len(text) + 2 * self._longest, 0)):
            if first - self._longest >= stop:
                for begin, end, each in self._skeletons.find(text[start:stop]):
                    yield start + begin, start + end, each
                start = first - self._longest
            stop = max(stop, last + self._longest)

    @staticmethod
    def _once(hits: Iterable[Hit]) -> list[Hit]:
        """The first hit of each list, and all of those that mask."""
        found, seen = [], set()
        for hit in hits:
            if hit[2].action == "mask" or hit[2].name not in seen:
                seen.add(hit[2].name)
                found.append(hit)
        return found

    def _by_patterns(self, text: str) -> Iterator[Finding]:
        deadline = time.perf_counter() + PATTERN_SECONDS
        for pattern, each in self._patterns:
            try:
                left = max(deadline - time.perf_counter(), 0.001)
                for match in pattern.finditer(text, timeout=left):
                    if match.end() > match.start() or each.action != "mask":
                        yield Finding(each.name, each.action, match.span())
                    if each.action != "mask":
                        break
            except TimeoutError:
                raise CheckFailed(f"a pattern of {each.name} takes too long") from None


def _words(each: WordList) -> Iterator[str]:
    yield from each.words
    for file in each.files:
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: is not UTF-8: {error.reason}") from error
        yield from (line for line in map(str.strip, lines) if line)


def _whole(text: str, hits: Iterable[Hit]) -> Iterator[Hit]:
    """The hits that are words and not parts of one."""
    for hit in hits:
        start, end, _ = hit
        if start > 0 and _goes_on(text[start - 1], text[start]):
            continue
        if end < len(text) and _goes_on(text[end - 1], text[end]):
            continue
        yield hit


def _meets(hit: Hit, spans: Sequence[Span]) -> bool:
    """Does it overlap one of these places, which are in order?"""
    after = bisect_left(spans, (hit[1], 0))
    return after > 0 and spans[after - 1][1] > hit[0]


def _goes_on(one: str, other: str) -> bool:
    """Do two characters beside each other belong to one word?"""
    return one.isalnum() and other.isalnum() and not (_JOINED.match(one) or _JOINED.match(other))


def _span(places: list[int], start: int, end: int, length: int) -> Span:
    """A place of the folded text in the text itself; all of it, if that is not known."""
    return (places[start], places[end]) if places else (0, length)
