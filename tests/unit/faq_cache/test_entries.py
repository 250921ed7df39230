"""A FAQ file is read, or all that is wrong with it is said at once."""

from __future__ import annotations

import importlib.util
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.faq_cache.entries import FaqError, Scope, check, load, overlap

ENTRY = {"id": "a", "question": "How do I pay?", "answer": "By card."}


def problems(*entries, **top) -> tuple[str, ...]:
    with pytest.raises(FaqError) as error:
        check({"faq": list(entries), **top})
    return error.value.problems


def test_all_mistakes_at_once_with_their_entries():
    found = problems(
        {**ENTRY, "asks": "?"},
        {"question": "Who?", "answer": "Us."},
        {**ENTRY, "id": "b", "answer": {}, "question": "When?"},
        {**ENTRY, "id": "c", "threshold": 2, "question": "Where?"},
        {**ENTRY, "id": "d", "scope": {"system": "("}, "question": "Why?"},
        {**ENTRY, "id": "e", "valid_until": "soon", "question": "Which?"},
        "no entry",
    )
    text = "\n".join(found)
    for part in (
        "'a': asks",
        "number 2: id",
        "'b': answer",
        "'c': threshold",
        "'d': scope.system",
    ):
        assert part in text
    assert "'e': valid_until" in text
    assert "number 7" in text


def test_the_same_question_twice_names_both():
    (found,) = problems(ENTRY, {**ENTRY, "id": "b", "question": "Hi! How do I PAY"})
    assert "'a'" in found
    assert "'b'" in found
    assert "'Hi! How do I PAY'" in found


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({}, {}, True),
        ({"callers": ["ann"]}, {}, True),
        ({"callers": ["ann"]}, {"callers": ["bob"]}, False),
        ({"models": ["gpt-4*"]}, {"models": ["gpt-4o"]}, True),
        ({"models": ["gpt-4*"]}, {"models": ["o*"]}, False),
        (
            {"models": ["gpt-4*"], "callers": ["ann"]},
            {"models": ["gpt-4o"], "callers": ["bob"]},
            False,
        ),
        ({"system": "shop"}, {"system": "bank"}, False),
        ({"system": "shop"}, {"system": "shop"}, True),
        ({"system": "shop"}, {}, True),
    ],
)
def test_the_same_question_in_two_scopes(one, other, meet):
    assert overlap(Scope.model_validate(one), Scope.model_validate(other)) is meet
    entries = [{**ENTRY, "scope": one}, {**ENTRY, "id": "b", "scope": other}]
    if meet:
        assert problems(*entries)
    else:
        assert len(check({"faq": entries}).entries) == 2


def test_an_entry_that_contradicts_itself():
    text = "\n".join(
        problems(
            {**ENTRY, "negatives": ["how do i pay?!"]},
            {**ENTRY, "id": "b", "question": "?", "answer": "x"},
            {**ENTRY, "id": "c", "question": "What?", "must": ["card"]},
            {**ENTRY, "id": "d", "question": "What card?", "must_not": ["card"]},
            {**ENTRY, "id": "d", "question": "Whose?"},
        )
    )
    assert "among its negatives" in text
    assert "no words" in text
    assert "'c': 'What?' lacks 'card'" in text
    assert "'d': 'What card?' has 'card'" in text
    assert "another entry of this id" in text


def test_an_expired_entry_is_in_nobodys_way():
    old = {**ENTRY, "valid_until": "2020-01-01"}
    assert len(check({"faq": [old, {**ENTRY, "id": "b"}]}).entries) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("faq.toml", b"[[faq]\n", "faq.toml: "),
        ("faq.toml", b"\xff\xfe", "faq.toml: "),
        ("faq.json", b'{"faq": [], "faq": []}', "uplicate"),
        ("faq.json", b'{"faq":' + b"[" * 100_000, "faq.json: "),
        ("faq.json", b"[]", "faq.json: "),
        ("faq.json", b'{"faq": 1}', "faq: "),
        ("faq.txt", b"", "should end in"),
    ],
)
def test_a_file_that_is_none(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FaqError, match=said):
        load(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FaqError, match="no such file"):
        load(tmp_path / "faq.toml")


def test_the_same_entry_in_each_format(tmp_path):
    (tmp_path / "faq.toml").write_text(
        '[[faq]]\nid = "a"\nquestion = "How do I pay?"\nanswer = "By card."\nvalid_until = 2030-01-01\n'
    )
    (tmp_path / "faq.json").write_text(
        '{"faq": [{"id": "a", "question": "How do I pay?", "answer": "By card.",'
        ' "valid_until": "2030-01-01"}]}'
    )
    assert load(tmp_path / "faq.toml") == load(tmp_path / "faq.json")


def test_yaml_where_it_is_installed(tmp_path):
    (tmp_path / "faq.yaml").write_text(
        "faq:\n- {id: a, question: 'How do I pay?', answer: By card.}\n"
    )
    if importlib.util.find_spec("yaml") is None:
        with pytest.raises(FaqError, match="pyyaml"):
            load(tmp_path / "faq.yaml")
    else:
        assert load(tmp_path / "faq.yaml").entries[0].id == "a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
KEYS = st.sampled_from(
    "id question aliases answer negatives must must_not scope valid_until threshold".split()
)


@given(st.lists(JSON | st.dictionaries(KEYS, JSON), max_size=3))
def test_whatever_stands_there_is_taken_or_refused(entries):
    with suppress(FaqError):
        assert check({"faq": entries}).entries is not None
