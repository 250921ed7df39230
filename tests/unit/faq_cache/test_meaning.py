"""What keeps apart two questions that mean nearly the same, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.faq_cache.meaning import content_words, objections
from plugins.faq_cache.question import Question
from plugins.faq_cache.vetoes import Antonyms

KNOWN = Antonyms()
WORDS = (
    "can you tell me how do i turn on off not my your the a card from paris to rome if and"
    " 怎么 怎么样 的 我 你 给 如果 和 还是 到 上海 北京 什么 意思 好"
)
QUESTIONS = st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=9).map(
    lambda words: Question(" ".join(words))
)


def names(one: str, other: str) -> list[str]:
    return list(objections(Question(one), Question(other), KNOWN))


@pytest.mark.parametrize(
    ("veto", "one", "other"),
    [
        ("numbers", "set an alarm for 5", "set my alarm for 6"),
        ("signs", "do you take 50%", "do you take 50"),
        ("negation", "why is it charged", "why is it not charged"),
        ("antonyms", "turn it on please", "can you turn it off"),
        ("question_word", "why is my card blocked", "is my card blocked"),
        ("question_word", "what time do you open", "where do you open"),
        ("question_word", "怎么在迪拜找工作", "去迪拜找工作怎么样"),
        ("question_word", "can i cancel my plan", "when can i cancel my plan"),
        ("antonyms", "is tax included in the price", "is tax excluded from the price"),
        ("antonyms", "is smoking allowed here", "is smoking banned here"),
        ("antonyms", "can i refund it", "can i nonrefund it"),
        ("negation", "can i cancel my plan", "can i un-cancel my plan"),
        ("aim", "how do i get a refund", "how do i stop getting a refund"),
        ("aim", "how do i pay the fee", "how do i avoid the fee"),
        ("time", "when do you open on monday", "when do you open on tuesdays"),
        ("time", "how many days does it take", "how many hours does it take"),
        ("tense", "where is my order", "where was my order"),
        ("tense", "how many days do i have", "how many days have i taken"),
        ("tense", "tell me how many days i have", "tell me how many days i've used"),
        ("name", "Does the app work on iPhone?", "does the app work on android"),
        ("name", "How do I get a refund?", "How do I get a refund from Amazon?"),
        ("subject", "how can i send money to a friend", "how can a friend send money to me"),
        ("subject", "who did the company hire", "who hired the company"),
        ("condition", "can i pay", "can i pay without a card"),
        ("condition", "do i pay a fee", "do i pay a fee if i cancel"),
        ("condition", "要是退款怎么办", "要退款怎么办"),
        ("latin", "iphone怎么登录", "android如何登录"),
        ("modal", "should i pay now", "can i pay right now"),
        ("pronouns", "how can i send you money", "how can you send me money"),
        ("pronouns", "how do you get a refund", "how do i get my refund"),
        ("pronouns", "can i change my password", "can i change his password"),
        ("pronouns", "can i cancel the order", "can you cancel an order"),
        ("pronouns", "为什么我欠我们钱", "为什么我们欠我钱"),
        ("roles", "对女生表白唱什么歌", "女生表白唱什么歌"),
        ("mention", "冰释前嫌的释是什么意思", "冰释前嫌是什么意思"),
        ("order", "flights from paris to rome", "a flight to paris from rome"),
        ("order", "上海有高铁到广州吗", "有从广州到上海的高铁吗"),
        ("order", "男人喜欢戴眼镜的女人吗", "女人喜欢戴眼镜的男人吗"),
        ("order", "爷爷的爸爸叫什么", "爸爸的爷爷叫什么"),
        ("grammar", "when does the store close", "when is the store close"),
        ("grammar", "is hepatitis a contagious", "is hepatitis contagious"),
    ],
)
def test_each_veto_has_its_name(veto, one, other):
    assert veto in names(one, other)
    assert veto in names(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("can you increase my credit limit", "raise my credit limit"),
        ("i would like you to freeze my account", "how do i freeze my account"),
        ("what day do i get paid", "when do i get paid"),
        ("can you tell me how to reset a password", "how can i reset my password"),
        ("how should i report my lost card", "how can i report a lost card"),
        ("what is the fare from paris to rome", "how much is the fare from paris to rome"),
        ("How Do I Reset My Password?", "how can i reset my password"),
        ("Is the app on iPhone?", "is there an app on the iphone"),
        ("can i cancel my plan", "how do i cancel my plan"),
        ("when should my tires be changed", "when do i need to change my tires"),
        ("what's on my list for monday", "What is on my list for Mondays?"),
        ("什么牌子的男士袜子好", "男士袜子什么牌子好"),
        ("菠萝和凤梨有什么区别", "凤梨和菠萝有什么区别"),
        ("酷狗音乐好还是百度音乐好", "百度音乐好还是酷狗音乐好"),
        ("为什么贴吧的头像显示不了", "为什么我贴吧的头像显示不了"),
    ],
)
def test_another_wording_is_not_vetoed(one, other):
    assert names(one, other) == []
    assert names(other, one) == []


def test_what_a_question_is_about():
    assert content_words(Question("Can you tell me how I booked the tickets?")) == {
        "book",
        "ticket",
    }
    assert content_words(Question("怎么退款")) == set()


@given(QUESTIONS, QUESTIONS)
def test_vetoes_are_symmetric(one, other):
    assert list(objections(one, other, KNOWN)) == list(objections(other, one, KNOWN))


@given(QUESTIONS)
def test_nothing_speaks_against_the_same_question(question):
    assert list(objections(question, question, KNOWN)) == []
