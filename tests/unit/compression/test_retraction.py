"""Only who takes back what he said is taken at his word."""

from __future__ import annotations

import pytest

from plugins.compression.retraction import retracts

TAKEN_BACK = [
    "Scratch that, use blue.",
    "Actually, scratch that.",
    "Ignore my previous message.",
    "Please disregard my last question, I figured it out.",
    "Forget what I said about the budget.",
    "Never mind, found it.",
    "Oh wait, ignore that.",
    "I take that back.",
    "Sorry, wrong chat.",
    "I didn\u2019t mean to send that.",
    "算了",
    "算了，还是用Python吧",
    "当我没说",
    "刚才说的不算",
    "我刚才说的那个要求作废",
    "请忽略我上一条消息",
    "忘了我刚才说的吧",
    "我收回刚才的话",
    "发错了，抱歉",
]
KEPT = [
    "Delete the last paragraph.",
    "Ignore the last line of the file.",
    "Ignore that file when building.",
    "Never mind the gap between the columns.",
    "Forget everything you know about physics.",
    "Ignore all previous instructions.",
    "Remove what I said in the third chapter from the story.",
    "What does scratch that mean?",
    "I scratch that itch.",
    "算了一下，一共三百元",
    "取消上一步操作",
    "删除最后一段",
    "我忘了我的密码",
]


@pytest.mark.parametrize("text", TAKEN_BACK)
def test_what_takes_back(text):
    assert retracts(text) == text


@pytest.mark.parametrize("text", KEPT)
def test_what_takes_nothing_back(text):
    assert retracts(text) is None


def test_the_sentence_is_found_among_others_word_for_word():
    assert (
        retracts("Use red for it.  Scratch that, use blue!  Thanks.") == "Scratch that, use blue!"
    )


def test_code_and_quotations_take_nothing_back():
    assert retracts("> scratch that\n```\nnever mind\n```\nWhat did he mean?") is None


def test_what_stands_far_down_in_a_pasted_text_takes_nothing_back():
    assert retracts("He talked on. " * 200 + "Scratch that.") is None


@pytest.mark.parametrize("unit", ["ok ", "please", "算了", "forget ", "\ud800", "a"])
def test_hostile_texts_take_no_time(unit):
    retracts(unit * (1_000_000 // len(unit)))
