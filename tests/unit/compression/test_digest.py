"""A digest is made of the segment's own sentences, fits its budget and tells what holds now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.compression.digest import Said, digest
from plugins.compression.pins import Pin, find, select


def estimate(text: str) -> int:
    return len(text) // 4 + 1


def said(turn: int, text: str, role: str = "user", calls: tuple[str, ...] = ()) -> Said:
    return Said(turn, role, text, estimate(text), calls)


def of(*segment: Said, budget: int = 200, without: tuple[str, ...] = ()) -> str:
    return digest(segment, tokens=estimate, budget=budget, without=without)


MESSAGES = st.builds(
    said,
    st.integers(1, 99),
    st.lists(
        st.sampled_from(
            [
                "The budget is $500.",
                "The budget is $900 now!",
                "Scratch that.",
                "Never mind",
                "预算是五百元，截止日期是3月5日。",
                "ok",
                "```\nValueError: x\n```",
                "a, b; " * 90,
                "\ud800 Ada Byron owns https://a.test/v2",
                "forget what I said about the budget",
                "NOTE: it is $4",
            ]
        ),
        max_size=6,
    ).map("\n".join),
    st.sampled_from(["user", "assistant", "tool", "function", ""]),
    st.sampled_from([(), ("search",), ("search", "read_file")]),
)


@given(st.lists(MESSAGES, max_size=20), st.integers(-5, 120), st.sampled_from([len, estimate]))
def test_the_budget_is_never_exceeded_and_nothing_depends_on_chance(segment, budget, tokens):
    text = digest(segment, tokens=tokens, budget=budget)
    assert not text or tokens(text) <= budget
    assert text == digest(segment, tokens=tokens, budget=budget)


@given(st.lists(MESSAGES, max_size=20))
def test_turns_stand_in_their_order(segment):
    numbered = [said(turn, each.text, each.role, each.calls) for turn, each in enumerate(segment)]
    heads = [line.split()[0] for line in of(*numbered, budget=999).splitlines()]
    turns = [int(head.lstrip("uatf")) for head in heads]
    assert turns == sorted(set(turns))


def test_facts_come_before_talk():
    text = of(
        said(1, "I was thinking about this and that. The launch is on 2027-03-05 in Mainz."),
        said(1, "Sure! I hope this helps.", "assistant"),
        said(2, "It is what it is, as they always used to say back then in those days."),
        budget=16,
    )
    assert text == "u1 The launch is on 2027-03-05 in Mainz."


def test_filler_is_left_out():
    assert (
        of(said(1, "Thanks!"), said(1, "Noted and recorded.", "assistant"), said(2, "好的，谢谢。"))
        == ""
    )


def test_the_later_of_two_values_is_told():
    text = of(
        said(1, "The budget cap is $500 total."),
        said(1, "Noted: the budget cap is $500 total.", "assistant"),
        said(2, "The conference budget is $250."),
        said(3, "The budget cap is $700 total."),
    )
    assert text.count("$500") == 0 or "Noted" in text
    assert "u1 " not in text
    assert "$700" in text
    assert "$250" in text


def test_an_update_in_other_words_replaces_what_it_updates():
    text = of(
        said(1, "Budget cap is $500 total."),
        said(2, "Lunch is at 12:30."),
        said(3, "Budget is $700 now."),
    )
    assert text == "u2 Lunch is at 12:30.\nu3 Budget is $700 now."
    text = of(said(1, "预算是500元。"), said(2, "现在预算是800元。"))
    assert text == "u2 现在预算是800元。"


def test_two_facts_of_one_form_stay():
    text = of(said(1, "Case A-101 is failing."), said(2, "Case B-202 is failing."))
    assert "A-101" in text
    assert "B-202" in text


def test_what_is_pinned_is_not_told_again_nor_what_a_pin_replaced():
    segment = (
        said(1, "Report all times in UTC."),
        said(2, "Ada owns it."),
        said(3, "Reply in French."),
    )
    text = of(*segment, without=("Report all times in UTC.", "Reply in German."))
    assert text == "u2 Ada owns it."


def test_what_was_taken_back_is_not_told_but_that_it_was():
    text = of(
        said(1, "The code name is HERON-7."),
        said(2, "Use a budget of $900."),
        said(2, "Fine.", "assistant"),
        said(3, "Ignore my previous message."),
    )
    assert text == "u1 The code name is HERON-7.\nu3 Ignore my previous message."
    assert of(said(1, "It is $4. Scratch that, it is free.")) == "u1 Scratch that, it is free."


def test_only_its_topic_is_taken_back():
    text = of(
        said(1, "The budget is $900. The owner is Ada Byron."),
        said(2, "We ship on 2027-03-05."),
        said(3, "Forget what I said about the budget."),
    )
    assert "$900" not in text
    assert "Ada Byron" in text
    assert "2027-03-05" in text


def test_of_a_tools_output_the_errors_are_told_and_little_else():
    output = "\n".join(["collected 12 items"] * 3 + [f"line {n}" for n in range(500)])
    failed = f"{output}\nValueError: no such case JUDGE-004"
    assert of(said(1, failed, "tool")) == "t1 error: ValueError: no such case JUDGE-004"
    assert len(of(said(1, output, "tool"), budget=9_999)) < 400
    assert "ValueError" in of(said(1, "Look:\n```\nValueError: bad 7\n```"))


def test_names_of_tools_are_told():
    assert of(said(1, "", "assistant", ("search", "read_file"))) == "a1 [search, read_file]"


def test_a_long_sentence_is_told_in_clauses_word_for_word():
    text = (
        "，".join(f"第{n}号仓库在2027年{n}月{n}日前要收到三百箱货物" for n in range(1, 13)) + "。"
    )
    told = of(said(1, text), budget=40)
    assert told
    assert all(clause in text for clause in told.removeprefix("u1 ").split(" "))


@pytest.mark.parametrize(
    "unit", ["a", "a, ", "A-1 ", "error", '"', "1.", "never ", "\n", "x y, ", "不要", "\ud800"]
)
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_hostile_texts_take_no_time(unit, role):
    of(said(1, unit * (1_000_000 // len(unit)), role), budget=50)


# The PyPI package compaction-conformance-kit: does what was planted in a chat survive?

FRAME = "x" * 100
"""Stands for the sentence above the memory."""


def survival(build, seeds: range, fraction: float) -> tuple[float, int]:
    """The share of planted facts that survive one compaction to a share of the characters."""
    runner = pytest.importorskip("compaction_kit.runner", reason="compaction-conformance-kit")
    held = planted = stale = 0
    for seed in seeds:
        session, canaries = build(seed)
        turns = session.transcript()
        budget = int(len("\n".join(f"[{turn.role}] {turn.text}" for turn in turns)) * fraction)
        text = compacted(turns[1:], budget)
        assert len(text) <= budget
        survived = runner._probe_all(canaries, text)
        held += sum(survived.values())
        planted += len(survived)
        stale += sum(
            old.lower() in text.lower() for each in canaries for old in each.superseded_tokens
        )
    return held / planted, stale


def compacted(turns, budget: int) -> str:
    """Pins in a tenth of the budget, a digest in what is left, and the last exchange as it is."""
    segment = [
        Said(n // 2 + 1, turn.role, turn.text, len(turn.text)) for n, turn in enumerate(turns[:-2])
    ]
    pins = select(
        [
            Pin(each.turn, text, each.tokens, is_negative)
            for each in segment
            if each.role == "user"
            for text, is_negative in find(each.text)
        ],
        tokens=lambda text: len(text) + 2,
        budget=budget // 10,
    )
    kept = "\n".join(turn.text for turn in turns[-2:])
    memory = "\n".join([FRAME, *(f"- {each.text}" for each in pins)])
    rest = budget - len(memory) - len(kept) - 2
    told = digest(segment, tokens=len, budget=rest, without=[each.text for each in pins])
    return f"{memory}\n{told}\n{kept}"


@pytest.mark.parametrize(("fraction", "least"), [(0.1, 0.40), (0.2, 0.90), (0.3, 0.99)])
def test_what_survives_of_the_kits_random_sessions(fraction, least):
    corpus = pytest.importorskip("compaction_kit.corpus", reason="compaction-conformance-kit")
    share, stale = survival(corpus.build_random_session, range(1, 13), fraction)
    assert share >= least
    assert stale == 0


@pytest.mark.parametrize(("fraction", "least"), [(0.2, 0.60), (0.3, 0.98)])
def test_what_survives_of_the_kits_rotating_sessions(fraction, least):
    generated = pytest.importorskip("compaction_kit.generated", reason="compaction-conformance-kit")
    share, _ = survival(generated.build_generated_session, range(1, 13), fraction)
    assert share >= least
