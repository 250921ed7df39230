"""Why two questions that look alike are not the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.matching import PAIRS
from plugins.faq_cache.question import Question
from plugins.faq_cache.vetoes import Antonyms, vetoes

KNOWN = Antonyms()
QUESTIONS = st.lists(
    st.sampled_from(
        "how do i turn on off not my your card 3 三 不 开 关 我 你 怎么 吗 to from".split()
    ),
    min_size=1,
    max_size=9,
).map(lambda words: Question(" ".join(words)))


def names(one: str, other: str, antonyms: Antonyms = KNOWN) -> list[str]:
    return list(vetoes(Question(one), Question(other), antonyms))


@pytest.mark.parametrize(
    ("veto", "one", "other"),
    [
        ("numbers", "within 3 days", "within 30 days"),
        ("numbers", "三天到吗", "五天到吗"),
        ("numbers", "半年", "一年"),
        ("negation", "is it free", "is it not free"),
        ("negation", "能退吗", "不能退吗"),
        ("antonyms", "turn it on", "turn it off"),
        ("antonyms", "开通会员", "关闭会员"),
        ("antonyms", "借钱", "还钱"),
        ("question_word", "why pay", "how pay"),
        ("question_word", "how much is it", "how is it"),
        ("question_word", "为什么退款", "怎么退款"),
        ("latin", "iphone怎么登录", "android怎么登录"),
        ("pronouns", "can i pay you", "can you pay me"),
        ("pronouns", "我欠你", "你欠我"),
        ("order", "from paris to london", "from london to paris"),
        ("words", "refund a ticket", "refund a parcel"),
    ],
)
def test_each_veto_has_its_name(veto, one, other):
    assert veto in names(one, other)
    assert veto in names(other, one)


@pytest.mark.parametrize(
    ("veto", "one", "other"),
    [
        ("numbers", "三天到吗", "3天到吗"),
        ("numbers", "一下子", "下子"),
        ("negation", "是不是免费", "免费吗"),
        ("negation", "开不开", "开"),
        ("negation", "不错吗", "很好吗"),
        ("antonyms", "关于我们", "关于你们"),
        ("question_word", "如何退款", "怎么退款"),
        ("pronouns", "您好吗", "你好吗"),
    ],
)
def test_what_only_looks_like_it_is_none(veto, one, other):
    assert veto not in names(one, other)


def test_operators_have_antonyms_of_their_own():
    one, other = "order with the crust", "order with the crumb"
    assert "antonyms" not in names(one, other)
    assert "antonyms" in names(one, other, Antonyms((("crust", "crumb"),)))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_opposites_are_vetoed(one, other):
    assert names(one, other) or Question(one).content != Question(other).content


@given(QUESTIONS, QUESTIONS)
def test_vetoes_are_symmetric(one, other):
    assert list(vetoes(one, other, KNOWN)) == list(vetoes(other, one, KNOWN))


@given(QUESTIONS)
def test_nothing_speaks_against_the_same_question(question):
    assert list(vetoes(question, question, KNOWN)) == []


@given(QUESTIONS, QUESTIONS)
def test_what_passes_has_the_same_words_in_the_same_order(one, other):
    if not list(vetoes(one, other, KNOWN)):
        assert one.content == other.content
