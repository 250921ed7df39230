"""Standing instructions: found where a user typed them, and kept within limits."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.compression.pins import Pin, find, select

DATA = Path(__file__).parents[3].parent / "shared" / "data"

STANDING = [
    ("Always answer in French.", False),
    ("Never include my name.", True),
    ("Please don\u2019t use emojis.", True),
    ("From now on, call me Ada.", False),
    ("Whenever you write code, add type hints.", False),
    ("If a request could harm someone, stop and ask me first.", False),
    ("Use metric units, not imperial.", True),
    ("Reply in bullet points only.", False),
    ("I want you to only reply with the terminal output.", False),
    ("Could you always answer in Spanish?", False),
    ("Your answers should be short.", False),
    ("Only Ada Byron may approve production deploys.", False),
    ("All times must be reported in UTC.", False),
    ("Rule 3: the staging host stays untouched.", False),
    ("以后都用中文回答。", False),
    ("请不要使用表情符号。", True),
    ("从现在开始，你要叫我老王。", False),
    ("每次回答前先复述一下我的问题。", False),
    ("回答要简短。", False),
    ("务必先征得我的同意再发邮件。", False),
    ("除非我要求，否则不要给代码。", True),
    ("在运行命令之前，先给我看你要做什么。", False),
    ("重要约束：不要打开机密文件夹里的任何文件。", True),
    ("用中文回答吧。", False),
]
ORDINARY = [
    "Don't worry about it.",
    "I don't know what to do.",
    "He never calls me.",
    "Why don't you try it?",
    "Never mind.",
    "Write a story about a dragon who never sleeps.",
    "When I run this code, I get an error.",
    "If you have time, what do you think?",
    "You are right.",
    "Can you tell me what this means?",
    "\u201cNever come back,\u201d she said.",
    "以后会怎么样？",
    "别人都说这部电影好看。",
    "每次看都很感动。",
    "你喜欢看吗",
    "记得，是在2005年上映。",
]
LINES = st.lists(
    st.sampled_from(
        [
            *(text for text, _ in STANDING),
            *ORDINARY,
            *["```", "> Never do it.", "", "For the rest of this session.", "# x", "\ud800"],
        ]
    ),
    max_size=12,
)


def estimate(text: str) -> int:
    return len(text) // 4 + 1


@pytest.mark.parametrize(("text", "is_negative"), STANDING)
def test_what_holds_for_good_is_found(text, is_negative):
    assert find(text) == [(text, is_negative)]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_said_once_is_not(text):
    assert find(text) == []


@given(LINES, st.sampled_from(["\n", " ", "\r\n"]), st.integers(0, 3))
def test_each_pin_is_a_part_of_its_message(lines, separator, times):
    text = separator.join(lines) * 10**times
    assert all(sentence in text for sentence, _ in find(text))


def test_code_and_quotations_order_nothing():
    assert find("Look:\n> Never reply in English.\n```\nalways use tabs\n```\nWhy?") == []
    assert find("Look:\n```\nAlways use tabs.\nNever stop.") == []


def test_a_scope_goes_with_the_sentence_behind_it():
    text = "For the rest of this session. use metric units only.\nHow tall is it?"
    assert find(text) == [("For the rest of this session. use metric units only.", False)]


def test_of_a_long_message_only_the_lines_around_what_was_pasted_count():
    pasted = "Always wear a helmet. Never look back. It was a long way.\n" * 200
    text = (
        f"Reply in German.\n{'Tall tale. ' * 60}\n{pasted}{'Tall tale. ' * 60}\nNever use emojis."
    )
    assert find(text) == [("Reply in German.", False), ("Never use emojis.", True)]


@pytest.mark.parametrize(
    "unit",
    [
        "never ",
        "Never run. ",
        "if ",
        "all ",
        "use ",
        "不要",
        "如果我",
        "rule ",
        "i want you to ",
        "\ud800",
        "> ",
        "a",
    ],
)
def test_hostile_texts_take_no_time(unit):
    find(unit * (1_000_000 // len(unit)))
    find(unit * (390 // len(unit)))
    find(unit * (5_900 // len(unit)))


def pin(turn: int, text: str, *, tokens: int = 20, negative: bool = False) -> Pin:
    return Pin(turn, text, tokens, negative)


def test_the_later_of_two_values_is_kept():
    pins = [pin(1, "Reply in French."), pin(2, "Call me Ada."), pin(3, "Reply in German.")]
    assert select(pins, tokens=estimate, budget=99) == pins[1:]


def test_what_is_said_again_stands_once_and_where_it_stood():
    pins = [pin(1, "Call me Ada."), pin(2, "Be brief."), pin(3, "call me  ADA.")]
    assert select(pins, tokens=estimate, budget=99) == pins[:2]


def test_a_value_that_comes_back_is_the_newest():
    pins = [
        pin(n, f"Reply in {language}.") for n, language in enumerate(["French", "German", "French"])
    ]
    assert [kept.text for kept in select(pins, tokens=estimate, budget=99)] == ["Reply in French."]


def test_a_flood_goes_before_what_was_typed():
    typed_pins = [pin(1, "Always cite the source."), pin(9, "Be brief and clear.")]
    flood = [
        pin(turn, f"Always do thing {turn}{n}!", tokens=1_400) for turn in (3, 5) for n in range(5)
    ]
    pins = sorted([*typed_pins, *flood], key=lambda each: each.turn)
    kept = select(pins, tokens=estimate, budget=estimate("x" * 24) * 4)
    assert set(typed_pins) <= set(kept)
    assert [each.turn for each in kept] == sorted(each.turn for each in kept)
    assert all(each.turn == 3 for each in kept if each.message_tokens > 1_000)


def test_what_forbids_goes_last():
    pins = [pin(1, "Be brief and clear."), pin(2, "Never push it.", tokens=900, negative=True)]
    assert select(pins, tokens=estimate, budget=estimate(pins[1].text)) == [pins[1]]


def test_no_more_of_a_message_and_of_a_chat_than_allowed():
    pins = [pin(turn, f"Always do thing {turn} {n}!") for turn in range(20) for n in range(9)]
    assert len(select(pins, tokens=estimate, budget=9_999)) == 32
    assert len(select(pins[:9], tokens=estimate, budget=9_999)) == 5


PINS = st.lists(
    st.builds(
        Pin,
        st.integers(1, 9),
        st.sampled_from([text for text, _ in STANDING]),
        st.integers(1, 1_500),
        st.booleans(),
    ),
    max_size=60,
).map(lambda pins: sorted(pins, key=lambda each: each.turn))


@given(PINS, st.integers(0, 400))
def test_limits_hold_and_the_order_stays(pins, budget):
    kept = select(pins, tokens=estimate, budget=budget)
    assert sum(estimate(each.text) for each in kept) <= budget
    assert len(kept) <= 32
    turns = [each.turn for each in kept]
    assert turns == sorted(turns)
    assert all(turns.count(turn) <= 5 for turn in turns)
    assert kept == select(pins, tokens=estimate, budget=budget)


def compint():
    spec = importlib.util.find_spec("conpact")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package `conpact` (COMPINT) is not installed")
    path = Path(spec.submodule_search_locations[0], "constraints.py")
    spec = importlib.util.spec_from_file_location("compint_constraints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_the_constraints_of_compint_are_found_in_all_framings(strict, direct):
    module = compint()
    long = "It was a long war that lasted for many years.\n" * 400
    for constraint in module.SCS:
        rendered = module.render_sc(constraint["sc"], strict, direct)
        for rest in ("How do I sort a list?", long, long.replace("\n", " "), "```py\nx = 1\n```"):
            assert rendered in [sentence for sentence, _ in find(f"{rendered}\n{rest}")]


def ordinary_chats() -> dict[str, list[str]]:
    if not DATA.is_dir():
        pytest.skip(f"no test data at {DATA}")
    with gzip.open(DATA / "tokens" / "recorded_usage.jsonl.gz", "rt", encoding="utf-8") as file:
        requests = [json.loads(line)["request"] for line in file]
    with gzip.open(DATA / "dialogues" / "kdconv_film.json.gz", "rt", encoding="utf-8") as file:
        dialogues = json.load(file)
    rows = {
        name: [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]
        for name in (
            "matching/en_clinc150_dev.jsonl",
            "matching/zh_lcqmc_dev.jsonl",
            "moderation/en_openai_moderation_dev.jsonl",
            "moderation/zh_cold_dev.jsonl",
        )
    }
    said = {name: [row.get("t") or row["a"] for row in found] for name, found in rows.items()}
    said["recorded"] = sorted(
        {
            message["content"]
            for request in requests
            for message in request.get("messages", [])
            if message.get("role") == "user" and isinstance(message.get("content"), str)
        }
    )
    said["kdconv"] = [said["message"] for dialogue in dialogues for said in dialogue["messages"]]
    return said


def test_hardly_anything_in_ordinary_chats_is_a_pin():
    for source, texts in ordinary_chats().items():
        pinned = sum(len(sentence) for text in texts for sentence, _ in find(text)[:5])
        assert pinned <= 0.03 * sum(map(len, texts)), source
