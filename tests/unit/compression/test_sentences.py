"""Sentences are parts of the text as it stands, whatever the text is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.compression.sentences import sentences, shape, typed, unlabelled

TEXTS = st.text(alphabet=st.sampled_from("aB 1.!?。！\n\r>`~-\"'…，“”\ud800第"), max_size=200)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "Dr. Smith pays $3.50 e.g. for v1.2.3. Good.",
            ["Dr. Smith pays $3.50 e.g. for v1.2.3.", "Good."],
        ),
        (
            "See https://a.test/b.c?d=e. Then J. Doe.",
            ["See https://a.test/b.c?d=e.", "Then J. Doe."],
        ),
        ("Only Python 3.11. No network.", ["Only Python 3.11.", "No network."]),
        ("It was I. You knew.", ["It was I.", "You knew."]),
        ("1. Sort it.\n2) Ship it\n- and rest", ["1. Sort it.", "2) Ship it", "- and rest"]),
        ("预算是500元。别忘了！好吗？嗯", ["预算是500元。", "别忘了！", "好吗？", "嗯"]),
        ("他说：“走吧。”然后走了。", ["他说：“走吧。”", "然后走了。"]),
        ("Well... maybe. Really?! Yes", ["Well... maybe.", "Really?!", "Yes"]),
        ("first line\r\nSecond line", ["first line", "Second line"]),
        (" \n---\n*** \n", []),
    ],
)
def test_where_sentences_end(text, expected):
    assert sentences(text) == expected


def test_a_sentence_wrapped_at_a_margin_is_one():
    wrapped = "Never run the deployment script on a Friday evening\nwithout asking me first."
    assert sentences(f"{wrapped} Thanks.") == [wrapped, "Thanks."]


@given(TEXTS)
def test_sentences_stand_in_the_text_in_their_order(text):
    begin = 0
    for sentence in sentences(text):
        begin = text.index(sentence, begin) + len(sentence)


@given(TEXTS)
def test_what_is_only_shown_is_blanked_and_nothing_moves(text):
    shown = typed(text)
    assert len(shown) == len(text)
    assert all(kept in {before, " "} for before, kept in zip(text, shown, strict=True))


def test_fences_and_quotations_are_not_the_writers_own():
    text = "a\n```py\nb\n~~~\nc\n```\nd\n> e\n  > f\n~~~~\ng\n~~~\nh"
    assert sentences(typed(text)) == ["a", "d"]


@pytest.mark.parametrize(
    "unit",
    [
        ".",
        "!? ",
        "a",
        "A ",
        "\n",
        "```",
        "> ",
        "U.",
        "1,",
        "e.g. ",
        "\ud800",
        "。",
        "\u2026\u2026x",
    ],
)
@pytest.mark.timeout(8)
def test_a_megabyte_of_anything_is_read_in_linear_time(unit):
    text = unit * (1_000_000 // len(unit))
    assert all(sentence in text for sentence in sentences(typed(text))[:3])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("Budget cap is $300 total.", "Actually, the budget cap is $700 total now."),
        ("HARD LIMIT: The deadline is 2027-01-02.", "The deadline is March 5, 2027."),
        ("The owner is Bob Smith.", "The owner is Carol Jones."),
        ("Reply in French.", "Reply in German."),
        ("以后都用中文回答。", "以后都用英文回答。"),
        ("预算是500元。", "现在预算是800元。"),
    ],
)
def test_two_states_of_one_thing_have_one_shape(earlier, later):
    before, after = shape(earlier), shape(later)
    assert before is not None
    assert after is not None
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Case 1 fails.", "Case 2 fails."),
        ("The project ceiling is $500.", "The conference ceiling is $300."),
        ("Branch a-1 is broken.", "Branch b-2 is broken."),
        ("I paid $5 for lunch.", "I paid $7 for lunch."),
        ("Bob is the approver.", "Carol is the reviewer."),
    ],
)
def test_two_things_have_two_shapes(one, other):
    first, second = shape(one), shape(other)
    assert first is None or second is None or first[0] != second[0]


def test_a_label_in_capitals_is_no_part_of_what_is_said():
    assert unlabelled("HARD LIMIT: it is $5") == "it is $5"
    assert unlabelled("Note: it is $5") == "Note: it is $5"
