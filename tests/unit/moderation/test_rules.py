"""What lists find, and what they only seem to."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.moderation.automaton import Automaton, NativeAutomaton, automaton
from plugins.moderation.folding import folded, origins, skeleton, unmixed
from plugins.moderation.options import WordList
from plugins.moderation.rules import Rules
from plugins.moderation.verdicts import CheckFailed, mask


async def rules(*words, action="block", patterns=(), **options):
    made = Rules(
        [WordList(name="x", words=words, patterns=patterns, action=action, **options)], "input"
    )
    await made.start()
    return made


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("scoundrel", "SCOUNDREL"),
        ("scoundrel", "(scoundrel)"),
        ("scoundrel", "sc\u00adoun\u200ddrel"),
        ("scoundrel", "\uff33coundrel"),
        ("scoundrel", "5C0UNDREL"),
        ("scoundrel", "sc0undre1!"),
        ("hell", "h3ll"),
        ("scoundrel", "sс\u043eundrеl"),
        ("scoundrel", "\u0405\u0421OUNDR\u0415L"),
        ("scoundrel", "5c\u03bfundre1"),
        ("two words", "Two Words"),
        ("two words", "two\nwords and more"),
        ("two words", "two \u00a0 words"),
        ("scoundrel", "sco\x00un\x08drel"),
        ("scoundrel", "s\u1ab0co\ufe20undrel\u1dc0"),
        ("scoundrel", "s\u0301c\u0302o\u0303undrel"),
        ("scoundrel", "scôúndrêl"),
        ("scoundrel", "ꜱᴄᴏᴜɴᴅʀᴇʟ"),
        ("scoundrel", "🅢🅒🅞🅤🅝🅓🅡🅔🅛 🇸🇨"),
        ("scoundrel", r'{"said": "sc\u006fundrel"}'),
        ("坏蛋", r'{"said": "\u574f\u86cb"}'),
        ("😀x", r'{"said": "\ud83d\ude00x"}'),
        ("straße", "STRASSE"),
        ("fûté", "fu\u0302te\u0301"),
        ("坏蛋", "大坏蛋们"),
        ("坏蛋", "大壞蛋們"),
        ("壞蛋", "坏蛋"),
        ("ab", "中ab文"),
        ("カタ", "ｶﾀ"),
    ],
)
async def test_found(word, text):
    assert (await rules(word)).search(text).blocks


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("ass", "class"),
        ("ano", "año"),
        ("prefer", "préfère"),
        ("two words", "two, words"),
        ("hell", "shell"),
        ("hell", "heil"),
        ("as", "45"),
        ("坏蛋", "坏，蛋"),
        ("pot", "рот"),
        ("cop", "сор"),
    ],
)
async def test_not_found(word, text):
    assert not (await rules(word)).search(text)


async def test_a_longer_word_hides_no_shorter_one():
    lists = [
        WordList(name="long", words=("bad old dog",), action="flag"),
        WordList(name="short", words=("old",)),
    ]
    made = Rules(lists, "input")
    await made.start()
    assert made.search("a bad old dog").categories == ("short", "long")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a dog, a D\u200bOG!", "a ***, a ****!"),
        ("ｄｏｇ 狗dog", "*** 狗***"),
        ("\u200bd0g", "\u200b***"),
        (r'{"a": "\u0064og \u0064"}', r'{"a": "******** \u0064"}'),
        ("a\n\n dog  \x00dog", "a\n\n ***  \x00***"),
    ],
)
async def test_a_mask_covers_what_was_found_and_nothing_else(text, left):
    made = await rules("dog", action="mask")
    assert mask(text, made.search(text).masked) == left


async def test_files_are_read_and_must_be_there(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffscoundrel\n\n 坏蛋 \n", "utf-8")
    assert (await rules(files=(file,))).search("你这个坏蛋").blocks
    with pytest.raises(FileNotFoundError):
        await rules(files=(tmp_path / "none.txt",))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"words\.txt: is not UTF-8"):
        await rules(files=(file,))


async def test_a_pattern_may_not_take_long():
    made = await rules(patterns=(r"(?:(?:x+)+)+\d(?:y|yy)*$",))
    start = time.perf_counter()
    with pytest.raises(CheckFailed):
        made.search("x" * 5_000 + "1" + "y" * 60 + "!")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "a1" * 100_000,
        "$" * 200_000,
        "dog " * 50_000,
        "aé" * 100_000,
        r"\u0061" * 30_000,
        " " * 200_000,
    ],
)
async def test_hostile_text_takes_time_that_grows_with_its_length(text):
    made = await rules("dog", "aaaa", "aab")
    start = time.perf_counter()
    await made.check(text)
    assert time.perf_counter() - start < 3


TEXTS = st.text("ab人😀", max_size=40)


def test_the_faster_automaton_is_used():
    assert isinstance(automaton([("a", 1)]), NativeAutomaton)


@pytest.mark.parametrize("kind", [Automaton, NativeAutomaton])
@given(st.lists(st.text("ab人😀", min_size=1, max_size=5), max_size=8), TEXTS)
def test_an_automaton_finds_every_occurrence(kind, words, text):
    found = sorted(set(kind([(word, word) for word in words]).find(text)))
    expected = {
        (start, start + len(word), word)
        for word in words
        for start in range(len(text))
        if text.startswith(word, start)
    }
    assert found == sorted(expected)


@given(st.text("ab c48а  ", max_size=60))
async def test_words_near_signs_are_those_of_the_whole_text(text):
    words = ("ab", "abba c", "b", "cab a bac")
    letters, spans = unmixed(folded(text))
    everywhere = Automaton([(skeleton(word), word) for word in words]).find(letters)
    whole = {
        (start, end)
        for start, end, _ in everywhere
        if any(start < last and end > first for first, last in spans)
        and letters[start - 1 : start].strip() == letters[end : end + 1].strip() == ""
    }
    found = (await rules(*words, action="mask")).search(text).masked
    assert whole <= set(found)


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_and_every_place_has_an_origin(text):
    plain = folded(text)
    letters, spans = unmixed(plain)
    assert len(letters) == len(plain)
    assert all(0 <= start < end <= len(plain) for start, end in spans)
    places = origins(text)
    if places:
        assert len(places) == len(plain) + 1
        assert places == sorted(places)
        assert places[-1] == len(text)


@pytest.mark.slow
async def test_five_thousand_words_take_under_a_millisecond_without_the_extra(monkeypatch):
    monkeypatch.setattr("plugins.moderation.automaton.IS_NATIVE", False)
    random = Random(1)
    latin = ("".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2_500))
    chinese = ("".join(chr(random.randint(0x4E00, 0x5FFF)) for _ in range(3)) for _ in range(2_500))
    made = await rules(*latin, *chinese)
    text = ("The quick brown fox jumps over the lazy dog. " * 20)[:800]
    times = []
    for _ in range(200):
        start = time.perf_counter()
        made.search(text)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001
