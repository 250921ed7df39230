"""`dragoman faq` tells how a question is decided, and what was nearly answered."""

from __future__ import annotations

import asyncio

import pytest

from plugins.faq_cache.command import reviewed
from plugins.faq_cache.entries import check
from plugins.faq_cache.matching import Index
from plugins.faq_cache.near import NearLog
from plugins.faq_cache.options import NearHits, Responses
from plugins.faq_cache.question import Question
from plugins.faq_cache.responses import ResponseCache
from proxy.cli import main
from proxy.store import MemoryStore, StoreUnavailable
from proxy.telemetry.metrics import Metrics

FAQ = """
[[faq]]
id = "refund"
question = "How do I get a refund?"
answer = "Ask us."
scope = { callers = ["ann"], system = "shop" }
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "faq.toml").write_text(FAQ)
    file = tmp_path / "dragoman.toml"
    file.write_text(
        '[upstream]\nbase_url = "http://127.0.0.1:1/v1"\n'
        f"[[plugins]]\nuse = 'faq_cache'\nfile = '{tmp_path / 'faq.toml'}'\n"
    )
    return file


def test_a_question_is_explained(config, capsys):
    assert main(["faq", "test", "Hi! How can I get the refund?", "-c", str(config)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "normal form: 'how can i get the refund'"
    assert said[1] == "exact: no entry has it"
    assert said[-1] == "answered by 'refund': Ask us."


@pytest.mark.parametrize(
    ("circumstances", "answered"),
    [
        (["--caller", "ann"], True),
        (["--caller", "bob"], False),
        (["--system", "You are a shop."], True),
        (["--system", "You are a bank."], False),
        (["--model", "gpt-4o"], True),
    ],
)
def test_scopes_are_tried(config, capsys, circumstances, answered):
    question = "How do I get a refund?"
    assert main(["faq", "test", question, "-c", str(config), *circumstances]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == ("answered by 'refund': Ask us." if answered else "not answered: scope")


def test_what_is_near_is_told_with_its_veto(config, capsys):
    main(["faq", "test", "How do I get no refund?", "-c", str(config)])
    said = capsys.readouterr().out
    assert "not answered: unknown" in said
    assert "against it: negation" in said


def test_mistakes_of_the_file_are_told(config, capsys):
    config.with_name("faq.toml").write_text(FAQ.replace("question", "asks"))
    assert main(["faq", "test", "Hi", "-c", str(config)]) == 2
    said = capsys.readouterr().err
    assert "entry 'refund': question: Field required" in said
    assert "entry 'refund': asks" in said


def test_a_configuration_without_the_plugin(tmp_path, capsys):
    file = tmp_path / "dragoman.toml"
    file.write_text('[upstream]\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert main(["faq", "test", "Hi", "-c", str(file)]) == 2
    assert "faq_cache is not among the plugins" in capsys.readouterr().err


def test_nothing_to_review(config, capsys):
    assert main(["faq", "review", "-c", str(config)]) == 0
    assert "only a shared store keeps them" in capsys.readouterr().out


class Broken(MemoryStore):
    """A store that is gone."""

    async def get(self, key, *, ttl=None):
        raise StoreUnavailable


class Services:
    """What the log of near hits and the response cache need of them."""

    upstream = "http://127.0.0.1:1/v1"

    def __init__(self, store: type[MemoryStore] = MemoryStore) -> None:
        self.store = store(1_000_000)
        self.metrics = Metrics("openai")
        self.secret = b"s" * 32
        self.tasks: list[asyncio.Task[None]] = []

    def defer(self, coroutine, *, name):
        self.tasks.append(asyncio.create_task(coroutine))
        return True


@pytest.mark.parametrize("texts", [False, True])
async def test_near_hits_are_kept_within_bounds(texts):
    services = Services()
    faq = check({"faq": [{"id": "lock", "question": "How do I lock my blue card?", "answer": "."}]})
    index = Index(faq, 0.5)
    log = NearLog(NearHits(questions=texts, per_entry=3), services)  # type: ignore[arg-type]
    for colour in ("red", "green", "grey", "pink", "pink", "pink"):
        asked = Question(f"How do I lock my {colour} card?")
        log.add(asked, index.near(asked, lambda _: True))
    log.add(Question("Who?"), [])
    await asyncio.wait(services.tasks)
    lines = await reviewed(faq, [], services)  # type: ignore[arg-type]
    assert len(lines) == 1 + 3
    assert lines[1].startswith("  3 x ")
    assert ("pink" in lines[1]) is texts
    assert "against it: words" in lines[1]


async def test_without_a_store_nothing_is_kept_and_nothing_fails():
    services = Services(Broken)
    faq = check({"faq": [{"id": "lock", "question": "How do I lock my card?", "answer": "."}]})
    index, log = Index(faq, 0.5), NearLog(NearHits(), services)  # type: ignore[arg-type]
    for _ in range(2):
        asked = Question("How do I unlock my card?")
        log.add(asked, index.near(asked, lambda _: True))
        await asyncio.wait(services.tasks)
    assert [task.exception() for task in services.tasks] == [None, None]
    responses = ResponseCache(Responses(enabled=True), services)  # type: ignore[arg-type]
    assert await responses.find("key") is None
