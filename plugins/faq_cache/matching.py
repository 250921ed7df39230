"""Which entry a question is about: the same question, or the same but for words without meaning.

The first tier that finds one decides.  Two entries are no entry: then nothing is answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from heapq import nlargest
from typing import TYPE_CHECKING

from .entries import missing, unwanted
from .question import Question
from .vetoes import Antonyms, vetoes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from typing import TypeAlias

    from .entries import Entry, Faq, Scope

    InScope: TypeAlias = Callable[[Scope], bool]
    Tell: TypeAlias = Callable[[str], None]

MAX_CHINESE, MAX_WORDS = 40, 30
"""Longer questions are answered by the exact tier only."""
RARE_WORDS, POSTINGS, NEIGHBOURS = 5, 400, 3
"""How far near hits are looked for: the rarest words, phrases for each, and the best of them."""


@dataclass(frozen=True, slots=True)
class Known:
    """One way to ask for an entry."""

    entry: Entry
    question: Question
    own_words: Counter[str]

    @classmethod
    def of(cls, entry: Entry, question: Question) -> Known:
        return cls(entry, question, Counter(question.tokens))


@dataclass(frozen=True, slots=True)
class Near:
    """A phrase that a question nearly is."""

    known: Known
    score: float
    veto: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What is answered, or why nothing is."""

    reason: str
    tier: str = ""
    known: Known | None = None
    score: float = 0.0

    @property
    def entry(self) -> Entry | None:
        """The entry whose answer is given."""
        return self.known.entry if self.known is not None and self.tier else None


def silent(_: str) -> None:
    pass


@dataclass(slots=True)
class Index:
    """All entries, by the forms of their questions."""

    faq: Faq
    threshold: float
    lexical: bool = True
    antonyms: Antonyms = field(init=False)
    _exact: dict[str, list[Known]] = field(init=False)
    _content: dict[tuple[str, ...], list[Known]] = field(init=False)
    _words: dict[str, list[Known]] = field(init=False)
    _negatives: dict[str, list[Question]] = field(init=False)

    def __post_init__(self) -> None:
        self.antonyms = Antonyms(self.faq.antonyms)
        self._exact, self._content = defaultdict(list), defaultdict(list)
        self._words = defaultdict(list)
        self._negatives = {e.id: [Question(n) for n in e.negatives] for e in self.faq.entries}
        for entry in self.faq.entries:
            for phrase in dict.fromkeys(entry.phrases):
                self._add(entry, Question(phrase))

    def _add(self, entry: Entry, question: Question) -> None:
        known = Known.of(entry, question)
        self._exact[question.normal].append(known)
        self._content[question.content].append(known)
        for word in set(question.content):
            self._words[word].append(known)

    def negatives(self, entry: Entry) -> list[Question]:
        """What must not get an entry's answer."""
        return self._negatives[entry.id]

    def find(
        self, asked: Question, in_scope: InScope, now: datetime, tell: Tell = silent
    ) -> Decision:
        """The entry to answer with, or the reason why there is none."""
        tell(f"normal form: {asked.normal!r}")
        if not asked.tokens:
            return Decision("no_words")
        if same := self._exact.get(asked.normal):
            decision = self._chosen("exact", same, asked, in_scope, now, tell)
        else:
            tell("exact: no entry has it")
            decision = Decision("unknown")
        if decision.entry is not None or decision.reason == "ambiguous" or not self.lexical:
            return decision
        return self._by_words(decision, asked, in_scope, now, tell)

    def _by_words(
        self, exact: Decision, asked: Question, in_scope: InScope, now: datetime, tell: Tell
    ) -> Decision:
        """The lexical tier, where the exact one has found nothing."""
        if asked.chinese > MAX_CHINESE or len(asked.tokens) - asked.chinese > MAX_WORDS:
            tell("lexical: the question is too long")
            return Decision("too_long")
        tell(f"words: {' '.join(asked.content)!r}")
        candidates = self._content.get(asked.content, []) if asked.content else []
        if not candidates:
            tell("lexical: no entry has these words in this order")
            return exact
        return self._chosen("lexical", candidates, asked, in_scope, now, tell)

    def _chosen(
        self,
        tier: str,
        candidates: list[Known],
        asked: Question,
        in_scope: InScope,
        now: datetime,
        tell: Tell,
    ) -> Decision:
        """The one entry that nothing speaks against."""
        found: dict[str, Decision] = {}
        rejected = Decision("unknown")
        for known in candidates:
            score = 1.0 if tier == "exact" else likeness(known.own_words, asked)
            objection = self._objection(known, asked, score, in_scope, now)
            tell(
                f"{tier}: {known.entry.id!r} asks {known.question.text!r}, score {score:.3f}: "
                f"{objection or 'accepted'}"
            )
            if objection:
                rejected = Decision(objection, known=known, score=score)
            elif known.entry.id not in found or found[known.entry.id].score < score:
                found[known.entry.id] = Decision("hit", tier, known, score)
        if len(found) > 1:
            tell(f"{tier}: more than one entry, so none")
            return Decision("ambiguous")
        return next(iter(found.values()), rejected)

    def _objection(
        self, known: Known, asked: Question, score: float, in_scope: InScope, now: datetime
    ) -> str:
        """What speaks against this entry; empty if nothing does."""
        entry, negatives = known.entry, self._negatives[known.entry.id]
        threshold = self.threshold if entry.threshold is None else entry.threshold
        objections = (
            ("scope", not in_scope(entry.scope)),
            ("expired", entry.expired(now)),
            ("negative", any(same(asked, negative) for negative in negatives)),
            ("must", missing(entry, asked) is not None),
            ("must_not", unwanted(entry, asked) is not None),
            ("threshold", score < threshold),
        )
        first = next((name for name, holds in objections if holds), "")
        vetoed = (f"veto_{name}" for name in vetoes(asked, known.question, self.antonyms))
        return first or next(vetoed, "")

    # ---- what was nearly found

    def near(self, asked: Question, in_scope: InScope) -> list[Near]:
        """The phrases most like this question, with what keeps them from being it."""
        if not asked.content or len(asked.tokens) > MAX_CHINESE:
            return []
        weights: dict[int, float] = defaultdict(float)
        by_id: dict[int, Known] = {}
        for word in self._rarest(asked.content):
            sharing = self._words[word]
            if weights and len(sharing) > POSTINGS:
                break
            for known in sharing[:POSTINGS]:
                weights[id(known)] += 1 / len(sharing)
                by_id[id(known)] = known
        likely = sorted(
            (by_id[key] for key in nlargest(4 * NEIGHBOURS, weights, key=weights.__getitem__)),
            key=lambda known: -likeness(known.own_words, asked),
        )
        return list(self._nearest(asked, likely, in_scope))

    def _rarest(self, words: Iterable[str]) -> list[str]:
        known = {word for word in words if word in self._words}
        return sorted(known, key=lambda word: (len(self._words[word]), word))[:RARE_WORDS]

    def _nearest(self, asked: Question, likely: list[Known], in_scope: InScope) -> Iterator[Near]:
        entries: set[str] = set()
        for known in likely:
            if known.entry.id in entries or not in_scope(known.entry.scope):
                continue
            entries.add(known.entry.id)
            veto = next(vetoes(asked, known.question, self.antonyms), "")
            yield Near(known, likeness(known.own_words, asked), veto)
            if len(entries) == NEIGHBOURS:
                return


def likeness(words: Counter[str], asked: Question) -> float:
    """The share of words that two questions have in common, function words included."""
    total = words.total() + len(asked.tokens)
    return 2 * (words & Counter(asked.tokens)).total() / total if total else 0.0


def same(one: Question, other: Question) -> bool:
    return one.normal == other.normal or one.content == other.content
