from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.tokens import vocabulary
from proxy.tokens.memo import Memo
from proxy.tokens.text import Allowance, LoopWouldStall, Meter, Vocabularies, estimate, pieces

if TYPE_CHECKING:
    from collections.abc import Callable

# What the patterns of the vocabularies treat in ways of their own.
TRICKY = "aZé1½字ひ한\u0301'’ \t\n\r\u3000_-=.,!?(){}/\\，。：😀\u200d\ufe0f<|>sStTdDmMlLvVrReE"


@given(st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=300))
@example("it's " * 20)
@example("a" * 19 + "'ll be")
@example("x\n\n \n" * 30)
def test_pieces_join_to_the_text(text: str) -> None:
    cut = list(pieces(text, 20))
    assert "".join(cut) == text
    assert all(len(piece) <= 20 for piece in cut)


@pytest.mark.parametrize("encoding", sorted(vocabulary.ENCODINGS))
@given(
    words=st.lists(
        st.text(st.sampled_from(TRICKY), max_size=12).map(lambda word: f"{word}x "), max_size=40
    )
)
def test_pieces_have_the_tokens_of_the_whole(
    vocabularies: Vocabularies, encoding: str, words: list[str]
) -> None:
    text = "".join(words)
    encode = vocabularies.load(encoding).encode_ordinary
    assert [token for piece in pieces(text, 20) for token in encode(piece)] == encode(text)


@pytest.mark.parametrize("hostile", ["a", " ", "\n", "=", "字", "\t ", "0", "<|endoftext|>"])
def test_a_forced_cut_costs_a_token_at_most(
    vocabularies: Vocabularies, tokens: Callable[[str], int], hostile: str
) -> None:
    text = (hostile * 50_000)[:50_000]
    cuts = len(list(pieces(text))) - 1
    whole = len(vocabularies.load("o200k_base").encode_ordinary(text))
    assert abs(tokens(text) - whole) <= cuts


def test_two_million_spaces_are_counted(tokens: Callable[[str], int], meter: Meter) -> None:
    assert tokens(" " * 2_000_000) == 15_750  # 250 pieces; the encoder itself would panic
    assert not meter.guessed


def test_special_tokens_are_text(tokens: Callable[[str], int]) -> None:
    assert tokens("<|endoftext|>") == 7
    assert tokens("<|endoftext|>" * 100) > 500


def test_lone_surrogates_are_counted_as_replacement_characters(
    tokens: Callable[[str], int],
) -> None:
    assert tokens("\ud800") == tokens("\ufffd")
    assert tokens("\udfff word" * 100) == tokens("\ufffd word" * 100)


def test_a_text_is_encoded_once(vocabularies: Vocabularies) -> None:
    memo: Memo[int] = Memo(10)
    text = "Once upon a time. " * 100
    first = Meter("o200k_base", vocabularies, memo, Allowance(len(text))).tokens(text)
    again = Meter("o200k_base", vocabularies, memo, Allowance(0, on_loop=True)).tokens(text)
    assert first == again == 501


def test_vocabularies_do_not_share_memories(vocabularies: Vocabularies) -> None:
    memo: Memo[int] = Memo(10)
    text = "我们昨天在北京看了一场电影。" * 20
    counts = {
        encoding: Meter(encoding, vocabularies, memo, Allowance(10_000)).tokens(text)
        for encoding in ("o200k_base", "cl100k_base")
    }
    assert counts["o200k_base"] < counts["cl100k_base"]


def test_no_text_is_kept(vocabularies: Vocabularies) -> None:
    memo: Memo[int] = Memo(10)
    Meter("o200k_base", vocabularies, memo, Allowance(10_000)).tokens("my password is hunter2 " * 9)
    held = gc.get_referents(memo, *gc.get_referents(memo), memo._young, memo._old)
    assert not any("hunter2" in str(thing) for thing in held if isinstance(thing, (str, bytes)))
    assert len(memo) == 1


def test_the_loop_is_spared_what_exceeds_the_allowance(vocabularies: Vocabularies) -> None:
    meter = Meter("o200k_base", vocabularies, Memo(10), Allowance(1_000, on_loop=True))
    assert meter.tokens("word " * 100) == 101
    with pytest.raises(LoopWouldStall):
        meter.tokens("other " * 100)


def test_many_short_texts_exceed_the_allowance_too(vocabularies: Vocabularies) -> None:
    meter = Meter("o200k_base", vocabularies, Memo(10), Allowance(1_000, on_loop=True))
    with pytest.raises(LoopWouldStall):
        sum(meter.tokens("x") for _ in range(1_000))


def test_the_loop_is_spared_the_loading_of_a_vocabulary() -> None:
    with pytest.raises(LoopWouldStall):
        Meter("o200k_base", Vocabularies(), Memo(10), Allowance(1_000, on_loop=True))


def test_the_thread_estimates_what_exceeds_the_allowance(vocabularies: Vocabularies) -> None:
    memo: Memo[int] = Memo(10)
    meter = Meter("o200k_base", vocabularies, memo, Allowance(1_000))
    text = "words " * 1_000
    assert meter.tokens(text) == estimate(6_000)
    assert meter.guessed
    assert len(memo) == 0


def test_a_vocabulary_that_does_not_load_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refuse(name: str) -> None:
        tries.append(name)
        raise vocabulary.VocabularyError("gone")

    monkeypatch.setattr(vocabulary, "load", refuse)
    vocabularies = Vocabularies()
    for _ in range(3):
        meter = Meter("o200k_base", vocabularies, Memo(10), Allowance(1_000))
        assert meter.tokens("四个汉字") == estimate(12)
        assert meter.guessed
    assert tries == ["o200k_base"]
    assert "estimated from now on" in caplog.text
    with pytest.raises(vocabulary.VocabularyError):
        vocabularies.load("o200k_base")


class Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""


class FailingEncoder:
    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    def encode_ordinary(self, _text: str) -> list[int]:
        raise self._failure


def failing_meter(failure: BaseException) -> Meter:
    vocabularies = Vocabularies()
    vocabularies._loaded["o200k_base"] = FailingEncoder(failure)  # type: ignore[assignment]
    return Meter("o200k_base", vocabularies, Memo(10), Allowance(1_000))


def test_a_panic_of_the_encoder_becomes_an_estimate() -> None:
    meter = failing_meter(Panic())
    assert meter.tokens("four") == estimate(4)
    assert meter.guessed


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_the_work_passes_through(stop: type[BaseException]) -> None:
    with pytest.raises(stop):
        failing_meter(stop()).tokens("four")
