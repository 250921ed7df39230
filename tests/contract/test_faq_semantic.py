"""The semantic tier in a running proxy: what it answers, what it only records, when it is left out."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from importlib.util import find_spec

import msgspec
import pytest

from proxy.cli import main
from proxy.demo import Upstream
from proxy.demo.embeddings import vector
from tests.support.raw import metric
from tests.support.redis import Server
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.skipif(
    find_spec("numpy") is None, reason="needs numpy, which is not installed"
)

FAQ = """
[[faq]]
id = "lock"
question = "How do I lock my blue card?"
answer = "In the app."

[[faq]]
id = "pay"
question = "Where can bills be paid?"
answer = "At the desk."
"""
EXACT, OTHER, UNLOCK = (
    "How do I lock my blue card?",
    "How do I lock up my blue card?",
    "How do I unlock my blue card?",
)


@pytest.fixture
def answering(proxy, upstream, tmp_path):
    """Start a proxy with a FAQ, and an endpoint for embeddings behind it."""

    async def start(url: str, options: str = "", more: str = "", deadline: str = "30 s"):
        (tmp_path / "faq.toml").write_text(FAQ)
        up = await upstream()
        table = (
            f"[[plugins]]\nuse = 'faq_cache'\nfile = '{tmp_path / 'faq.toml'}'\n"
            "semantic.embedder = 'endpoint'\nsemantic.model = 'm'\n"
            f"semantic.base_url = '{url}'\nsemantic.threshold = 0.7\n"
            f"semantic.deadline = '{deadline}'\nsemantic.timeout = '30 s'\n{options}\n"
        )
        (tmp_path / "command.toml").write_text(f"upstream.base_url = '{up.url}'\n{more}{table}")
        return up, await proxy(up.url, f"{more}{table}")

    return start


async def say(running, question: str):
    async with running.client() as client:
        return await client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )


async def text(running, question: str) -> str | None:
    return (await say(running, question)).parse().choices[0].message.content


async def outcome(running, mode: str, name: str) -> float:
    labels = f'{{mode="{mode}",outcome="{name}"}}'
    return await metric(running, f"dragoman_faq_cache_semantic_total{labels}") or 0


async def becomes(running, mode: str, name: str, question: str) -> None:
    """Ask until the tier says this of the question."""
    async with asyncio.timeout(30):
        while True:
            await say(running, question)
            if await outcome(running, mode, name):
                return
            await asyncio.sleep(0.05)


async def test_it_answers_in_other_words_and_not_the_opposite(answering):
    async with Upstream() as endpoint:
        up, running = await answering(endpoint.base_url, "semantic.mode = 'serve'")
        await becomes(running, "serve", "hit", OTHER)
        up.calls.clear()
        answer = await say(running, OTHER)
        assert answer.parse().choices[0].message.content == "In the app."
        header = answer.headers["x-dragoman-cache"]
        assert header.startswith("hit;tier=semantic;id=lock;score=0.9")
        assert up.calls == []
        assert await text(running, UNLOCK) == "Hello."
        assert await outcome(running, "serve", "veto_antonyms") == 1
        assert await text(running, "What is it like in Rome?") == "Hello."
        assert await outcome(running, "serve", "cosine") == 1
        assert await text(running, EXACT) == "In the app."


async def test_in_shadow_it_answers_nothing_and_delays_nothing(answering):
    released = asyncio.Event()

    async def held(call):
        await released.wait()
        await call.answer(b"{}", status="500 Oops")

    raw = RawUpstream(held)
    await raw.start()
    try:
        _, running = await answering(raw.url)
        assert await text(running, OTHER) == "Hello."
        await becomes(running, "shadow", "semantic_not_ready", OTHER)
        released.set()
    finally:
        await raw.stop()


async def test_what_it_would_answer_is_counted(answering):
    async with Upstream() as endpoint:
        _, running = await answering(endpoint.base_url)
        await becomes(running, "shadow", "hit", OTHER)
        assert await text(running, OTHER) == "Hello."
        assert not await metric(running, "dragoman_faq_cache_tokens_saved_total")


async def test_an_endpoint_that_hangs_is_a_miss(answering):
    hang = asyncio.Event()

    async def script(call):
        if hang.is_set():
            await call.wait_closed(60)
            return
        entries = [
            {
                "object": "embedding",
                "index": at,
                "embedding": base64.b64encode(vector(each, 256)).decode(),
            }
            for at, each in enumerate(call.json["input"])
        ]
        await call.answer(msgspec.json.encode({"object": "list", "model": "m", "data": entries}))

    raw = RawUpstream(script)
    await raw.start()
    try:
        options = "semantic.mode = 'serve'\nsemantic.queue = 1"
        _, running = await answering(raw.url, options, deadline="1 s")
        await becomes(running, "serve", "hit", OTHER)
        hang.set()
        assert await text(running, OTHER) == "Hello."
        assert await outcome(running, "serve", "semantic_slow") >= 1
    finally:
        await raw.stop()


async def test_a_review_is_seen_by_processes_that_run(answering, tmp_path, capsys):
    server = await Server(tmp_path).start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        endpoint = await stack.enter_async_context(Upstream())
        more = f"store.url = '{server.url}'\nstore.secret = '{'s' * 32}'\nstore.timeout = '3 s'\n"
        _, running = await answering(endpoint.base_url, "near.questions = true", more)
        await becomes(running, "shadow", "hit", OTHER)
        await say(running, UNLOCK)
        config = str(tmp_path / "command.toml")

        async def faq(*arguments: str) -> str:
            assert await asyncio.to_thread(main, ["faq", *arguments, "-c", config]) == 0
            return capsys.readouterr().out

        async with asyncio.timeout(30):
            while "unlock" not in (said := await faq("review")):
                await asyncio.sleep(0.2)
        assert f"{OTHER!r}, answered by the semantic tier as" in said
        assert "against it: antonyms" in said
        assert "is an alias of 'lock' now" in await faq("review", "accept", "lock", OTHER)
        assert "is a negative of 'lock' now" in await faq("review", "reject", "lock", UNLOCK)

        async def is_answered() -> bool:
            answer = await say(running, OTHER)
            return answer.headers.get("x-dragoman-cache") == "hit;tier=exact;id=lock"

        async with asyncio.timeout(30):
            while not await is_answered():
                await asyncio.sleep(0.1)
        assert (await faq("review")).splitlines() == [
            "no near hits",
            "semantic tier: 1 accepted, 0 rejected; its precision is at least 0.207 (95 %)",
        ]
