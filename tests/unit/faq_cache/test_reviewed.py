"""Verdicts on near hits stand in a file beside the FAQ, and the FAQ file itself stands above them."""

from __future__ import annotations

import pytest

from plugins.faq_cache import reviewed
from plugins.faq_cache.entries import FaqError, load
from plugins.faq_cache.reviewed import Verdict
from proxy.cli import main

FAQ = """
[[faq]]
id = "pay"
question = "How do I pay?"
answer = "By card."
negatives = ["How do I not pay?"]

[[faq]]
id = "cost"
question = "What is it?"
answer = "Ten."
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "faq.toml"
    path.write_text(FAQ)
    (tmp_path / "dragoman.toml").write_text(
        "upstream.base_url = 'http://127.0.0.1:1/v1'\n[[plugins]]\nuse = 'faq_cache'\n"
        f"file = '{path}'\n"
    )
    return path


def review(file, *arguments: str) -> int:
    return main(["faq", "review", *arguments, "-c", str(file.with_name("dragoman.toml"))])


def phrases(file) -> tuple[tuple[str, ...], tuple[str, ...]]:
    entry = load(file).entries[0]
    return entry.aliases, entry.negatives


def test_what_is_accepted_is_an_alias_and_what_is_rejected_a_negative(file, capsys):
    assert review(file, "accept", "pay", "Which cards can I use?") == 0
    assert review(file, "reject", "pay", "Whom do I pay?") == 0
    assert phrases(file) == (("Which cards can I use?",), ("How do I not pay?", "Whom do I pay?"))
    assert file.read_text() == FAQ
    assert "faq.reviewed.jsonl" in capsys.readouterr().out


def test_the_last_verdict_stands(file):
    review(file, "accept", "pay", "Whom do I pay?")
    review(file, "reject", "pay", "whom do I PAY")
    assert phrases(file) == ((), ("How do I not pay?", "whom do I PAY"))
    assert len(reviewed.beside(file).read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("accept", "gone", "Who?"), "there is no entry 'gone'"),
        (("accept", "pay", "What is it?"), "are asked the same"),
        (("reject", "pay", "How do I pay"), "itself says otherwise"),
        (("accept", "pay", "how do i not pay"), "itself says otherwise"),
        (("accept", "pay", "?!"), "has no words"),
        (("accept", "pay"), "name the entry and the question"),
    ],
)
def test_what_cannot_be_is_said_and_not_written(file, capsys, arguments, said):
    assert review(file, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not reviewed.beside(file).exists()


def test_the_file_stands_above_the_verdicts(file):
    review(file, "accept", "pay", "Whom do I pay?")
    more = 'negatives = ["Whom do I pay?"]'
    file.write_text(FAQ.replace('negatives = ["How do I not pay?"]', more))
    assert phrases(file) == ((), ("Whom do I pay?",))


def test_an_entry_that_is_gone_takes_its_verdicts_along(file):
    review(file, "accept", "pay", "Whom do I pay?")
    file.write_text(FAQ.replace('"pay"', '"paid"'))
    assert phrases(file) == ((), ("How do I not pay?",))


def test_a_line_that_is_no_verdict_is_named(file):
    reviewed.beside(file).write_text('{"entry":"pay"}\n')
    with pytest.raises(FaqError, match=r"faq\.reviewed\.jsonl:1: "):
        load(file)


def test_how_many_of_each_tier_were_right():
    said = [
        Verdict("pay", f"q{n}", accepted, tier)
        for n, (accepted, tier) in enumerate(
            [(True, "semantic"), (True, "semantic"), (False, "semantic"), (True, "")]
        )
    ]
    assert reviewed.counts(said) == {"semantic": (2, 3)}
