"""Terms: what a question and its answer have in common."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.compression.words import LONGEST, stem, terms


@pytest.mark.parametrize(
    "forms",
    [
        "cancel cancels cancelled canceled cancelling cancellation",
        "reserve reserved reserving reservation",
        "study studies studied studying",
        "adopt adopts adopted adoption",
        "refund refunds refunded refunding",
        "make makes made making",
        "buy buys bought buying",
        "run ran runs running",
        "child children",
        "box boxes",
        "activity activities",
        "process processes processing processed",
        "happy happily happiness",
        "delete deleted deletes deletion",
        "agree agreed agreeing",
    ],
)
def test_forms_of_a_word_are_one_term(forms):
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "different",
    ["sing king", "bus but", "red read", "station state", "number numb", "class clay", "use us"],
)
def test_different_words_are_different_terms(different):
    one, other = different.split()
    assert stem(one) != stem(other)


def test_words_of_the_grammar_are_left_out():
    assert terms("What did you say about the budget? I don't think it's Caroline's.") == [
        stem("budget"),
        stem("think"),
        stem("caroline"),
    ]
    assert terms("What would they have done to me and you?") == []


def test_chinese_gives_characters_and_pairs():
    assert terms("电影票房") == ["电", "影", "票", "房", "电影", "影票", "票房"]


def test_chinese_particles_and_questions_are_left_out():
    assert terms("电影的导演是谁？") == ["电", "影", "电影", "导", "演", "导演"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京タワー", {"東京", "タワ", "ワー", "東"}),
        ("한국어", {"한국", "국어"}),
        ("ภาษาไทย", {"ภา", "ไท", "ทย"}),
    ],
)
def test_other_scripts_without_spaces_give_pairs_too(text, expected):
    assert expected <= set(terms(text))


@pytest.mark.parametrize("text", ["नमस्ते", "السَّلام", "привет", "café", "straße"])
def test_words_of_other_scripts_stay_whole(text):
    assert len(terms(f"{text}, {text}!")) == 2
    assert len(set(terms(f"{text}, {text}!"))) == 1


@pytest.mark.parametrize(
    ("text", "whole", "part"),
    [
        ("Your order ORD-12345 left.", "ord-12345", "12345"),
        ("due on 2024-01-05,", "2024-01-05", "2024"),
        ("version v1.2.3.", "v1.2.3", "v1"),
        ("Write to Ann.Lee@example.com!", "ann.lee@example.com", "exampl"),
        ("at 12:30 sharp", "12:30", "12"),
        ("it cost $1,200.50", "1200.50", "200"),
        ("订单号是ORD-12345吗", "ord-12345", "12345"),
    ],
)
def test_what_stands_together_is_a_term_beside_its_parts(text, whole, part):
    assert {whole, part} <= set(terms(text))


def test_numbers_in_chinese_are_terms():
    assert {"2001", "12", "28"} <= set(terms("2001年12月28日"))


def test_full_width_and_capitals_are_the_same():
    assert terms("ＡＢＣ１２３ Über") == terms("abc123 über")


def test_data_is_one_short_term():
    (term,) = terms("x" * 100_000)
    assert len(term) == LONGEST


@pytest.mark.parametrize("text", ["", " \n", "。！？", "\ud800", "🙂👍", "-_.:/@+,'", "的了吗"])
def test_nothing_is_found_where_nothing_is_said(text):
    assert terms(text) == []


def test_a_lone_surrogate_hides_nothing():
    assert terms("budget\ud800 500") == ["budget", "500"]


@given(st.text(st.characters()))
def test_any_text_has_terms_that_do_not_depend_on_its_case(text):
    assert terms(text) == terms(text)
    assert all(terms(text.casefold()))


@pytest.mark.parametrize("unit", ["x", "a-", "a. ", "1,2.", "电影", "\ud800", "a\u0301\u0316", "'"])
def test_hostile_text_takes_linear_time(unit):
    start = time.process_time()
    terms(unit * (100_000 // len(unit)))
    assert time.process_time() - start < 2
