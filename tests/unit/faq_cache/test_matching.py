"""Which entry answers, and what is never answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks import matching
from benchmarks.matching import PAIRS
from plugins.faq_cache.entries import check
from plugins.faq_cache.matching import Decision, Index
from plugins.faq_cache.question import Question

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFUND = {"id": "refund", "question": "How do I get a refund?", "answer": "Ask us."}


def index(*entries, threshold=0.5, lexical=True, **top):
    return Index(check({"faq": list(entries), **top}), threshold, lexical=lexical)


def ask(found: Index, question: str, in_scope=lambda _: True) -> Decision:
    return found.find(Question(question), in_scope, NOW)


def entry_of(found: Index, question: str) -> str | None:
    entry = ask(found, question).entry
    return entry.id if entry else None


def test_the_tiers():
    found = index(REFUND)
    assert ask(found, "how do i get a refund").tier == "exact"
    assert ask(found, "How could I get the refund, please?").tier == "lexical"
    assert ask(found, "How do I get a refund now?").reason == "unknown"
    assert ask(index(REFUND, lexical=False), "How could I get the refund?").reason == "unknown"
    assert ask(found, "?!").reason == "no_words"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"negatives": ["How can I get the refund"]}, "negative"),
        ({"must": ["do"]}, "must"),
        ({"must_not": ["can"]}, "must_not"),
        ({"threshold": 0.95}, "threshold"),
        ({"valid_until": "2025-12-30"}, "expired"),
    ],
)
def test_what_keeps_an_entry_from_answering(more, reason):
    decision = ask(index({**REFUND, **more}), "how can i get the refund")
    assert (decision.reason, decision.entry) == (reason, None)


def test_an_entry_is_valid_to_the_end_of_its_last_day():
    found = index({**REFUND, "valid_until": "2026-01-01"})
    assert ask(found, "How do I get a refund?").tier == "exact"


def test_two_entries_are_none():
    other = {"id": "other", "question": "How can I get the refund?", "answer": "No."}
    found = index(REFUND, other)
    assert ask(found, "how could i get the refund?").reason == "ambiguous"
    assert entry_of(found, "how can i get the refund") == "other"


def test_an_expired_entry_leaves_the_question_to_the_lexical_tier():
    new = {"id": "new", "question": "How can I get the refund?", "answer": "Now so."}
    found = index({**REFUND, "valid_until": "2025-01-01"}, new)
    assert entry_of(found, "How do I get a refund?") == "new"


def test_long_questions_are_for_the_exact_tier():
    long = "refund " * 31
    assert ask(index(REFUND), long).reason == "too_long"
    assert ask(index({**REFUND, "aliases": [long]}), long).tier == "exact"


def test_what_was_near_is_told_with_its_veto():
    found = index(REFUND, {"id": "card", "question": "How do I lock my card?", "answer": "So."})
    (best, *_) = found.near(Question("How do I unlock my card?"), lambda _: True)
    assert (best.known.entry.id, best.veto) == ("card", "antonyms")
    assert 0.5 < best.score < 1


def test_the_nearest_is_found_among_many():
    found = matching.index({f"e{n}": [f"How do I open drawer {n}?"] for n in range(1_000)})
    (best, *_) = found.near(Question("Why can I not open drawer 777?"), lambda _: True)
    assert best.known.entry.id == "e777"


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_an_opposite_is_never_answered(one, other):
    for known, asked in ((one, other), (other, one)):
        found = index({**REFUND, "question": known})
        assert ask(found, asked).entry is None
        assert ask(found, known).entry is not None


def test_of_a_generated_list_of_opposites_none_is_answered():
    assert len(matching.all_pairs()) > 1_000
    assert matching.opposites() == []


def data(name: str) -> list[dict[str, Any]]:
    if not (matching.FOLDER / name).exists():
        pytest.skip(f"{name} is not here")
    return matching.rows(matching.FOLDER / name)


def test_nothing_wrong_is_answered_on_clinc150():
    score = matching.clinc150(data(matching.CLINC150))
    assert score.wrong == 0
    assert score.right >= 20


def test_precision_and_recall_on_lcqmc():
    score = matching.lcqmc(data(matching.LCQMC))
    assert score.precision >= 0.99
    assert score.lower_bound >= 0.96
    assert score.recall >= 0.12


def test_a_lookup_among_ten_thousand_takes_less_than_a_millisecond():
    spent = matching.lookups()
    assert spent[len(spent) * 99 // 100] < 1
