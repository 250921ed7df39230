"""What makes no difference between two questions, and what does."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.faq_cache.normal import LONGEST, folded, normal, plain, tokens
from plugins.faq_cache.question import Question, number

ANYTHING = st.text(max_size=80)
WORDS = st.lists(
    st.sampled_from(
        "refund card how why not 3 1.5 50% you 我 你 退款 怎么 不 開通 ﬁne ＡＢＣ c++".split()
    ),
    min_size=1,
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("How do I get a refund?", "how do i get a refund"),
        ("  HOW do I get\ta refund ?! ", "how do i get a refund"),
        ("Ｈｏｗ do I get a “refund”", "how do i get a refund"),
        ("Hi, could you please tell me how I get a refund? Thanks!", "how I get a refund"),
        ("Hello there. Please, how do I pay, please?", "how do I pay"),
        ("ref\u200bund", "refund"),
        ("Refund, please!", "refund"),
        ("What’s the fee", "WHAT'S the fee"),
        ("What's the fee", "what is the fee"),
        ("I can’t log in", "i cannot log in"),
        ("1,000 pieces", "1000 pieces"),
        ("你好，請問如何關閉自動續費？謝謝", "如何关闭自动续费"),
        ("麻烦问一下，WiFi怎么连", "wifi 怎么连"),
        ("怎么连ＷＩＦＩ～", "怎么连wifi"),
    ],
)
def test_how_it_is_written_makes_no_difference(written, same):
    assert normal(written) == normal(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10²", "102"),
        ("-5", "5"),
        ("1.5", "15"),
        ("5%", "5"),
        ("C++", "C"),
        ("C#", "C"),
        ("$5", "5"),
        ("resign", "re sign"),
        ("Hello Kitty", "Kitty"),
        ("你好漂亮", "漂亮"),
        ("怎么说谢谢", "怎么说"),
        ("can you tell me a joke", "a joke"),
        ("हिन्दी", "हिनदी"),
    ],
)
def test_what_is_asked_makes_a_difference(one, other):
    assert normal(one) != normal(other)


@pytest.mark.parametrize("text", ["thank you", "hello", "请问", "please", "谢谢"])
def test_politeness_alone_stays(text):
    assert normal(text)


@given(ANYTHING)
def test_any_text_has_a_normal_form(text):
    once = normal(text)
    assert once == once.strip()
    assert all(token and not token.isspace() for token in tokens(folded(text)))


@given(ANYTHING)
def test_folding_twice_is_folding_once(text):
    assert tokens(folded(folded(text))) == tokens(folded(text))


@given(WORDS)
def test_case_width_and_punctuation_make_no_difference(text):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() else c for c in text)
    assert normal(text.upper()) == normal(text) == normal(wide) == normal(f"  {text} ?!")
    assert normal(unicodedata.normalize("NFD", text)) == normal(text)


@given(WORDS)
def test_numbers_and_signs_are_never_lost(text):
    digits = [c for c in text if c.isdigit()]
    assert [c for c in normal(text) if c.isdigit()] == digits
    assert normal(text).count("%") == text.count("%")


@given(ANYTHING)
def test_politeness_is_taken_from_the_ends_only(text):
    assert plain(folded(text)) in folded(text)


@pytest.mark.parametrize(
    ("chinese", "figures"),
    [("三", "3"), ("十", "10"), ("十二", "12"), ("二十", "20"), ("两百零五", "205"), ("一千二百", "1200"),
     ("三万", "30000"), ("二二", "二二"), ("百百", "百百"), ("半", "半")],
)  # fmt: skip
def test_numbers_in_characters(chinese, figures):
    assert number(chinese) == figures


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("怎么开通会员", "如何才能开通会员呢？"),
        ("能不能退款", "可以退款吗"),
        ("有哪些好看的电影", "都有什么好看的电影啊"),
        ("三天能到吗", "3天能到么"),
        ("How do I pay a bill?", "how can I pay the bill"),
        ("What is the fee?", "Tell me what the fee is"),
    ],
)
def test_words_without_meaning_may_differ(one, other):
    assert Question(one).content == Question(other).content


@pytest.mark.parametrize(
    "part",
    [
        "!",
        "/",
        "一",
        "第一",
        "a!",
        "thanks!",
        "谢谢",
        "你好，",
        "please ",
        "- ",
        "~",
        "1,",
        "不",
        "\u0301",
    ],
)
def test_no_text_takes_long(part):
    text = (part * LONGEST)[: LONGEST - 1] + "x"
    start = time.thread_time()
    assert Question(text).joined
    assert time.thread_time() - start < 0.1
