"""The plugin on whole requests: what it makes is valid, never longer, and always the same."""

from __future__ import annotations

import logging
import os
import random
from typing import Any

import msgspec
import pytest

from plugins.compression import Compression
from plugins.compression.options import CompressionOptions
from proxy.exchange import Caller, Exchange
from proxy.services import Services
from proxy.store import MemoryStore
from proxy.tasks import Tasks
from proxy.telemetry import Metrics
from proxy.tokens import Tokenizer
from proxy.wire import ChatRequest, Received
from tests.unit.compression.chats import open_calls

CHATS = int(os.environ.get("FUZZ_CHATS", "800"))
"""FUZZ_CHATS=10000 takes two minutes."""

SMALL = CompressionOptions(high=500, low=150, keep=1, segment_tokens=40, segments=3)
POLICIES = [
    SMALL,
    CompressionOptions(policy="every_k", every=2, keep=1, segment_tokens=40),
    CompressionOptions(policy="window", window_tokens=200),
    CompressionOptions(policy="window", window_exchanges=2, pins=False),
]
WORDS = "ship box price 订单 4711 don't please never 预算 Tuesday Mainz v2.1 always ok why".split()


def services(secret: bytes = b"s") -> Services:
    """The real ones, but for a network that nothing here needs."""
    return Services(
        name="compression",
        tokens=Tokenizer(),
        http=None,  # type: ignore[arg-type]
        store=MemoryStore(1_000_000),
        tracer=None,  # type: ignore[arg-type]
        metrics=Metrics("openai"),
        log=logging.getLogger("dragoman.plugins.compression"),
        tasks=Tasks(),
        upstream="http://127.0.0.1:9/v1",
        secret=secret,
    )


async def started(options: CompressionOptions) -> Compression:
    plugin = Compression(options, services())
    await plugin.start()
    return plugin


@pytest.fixture(params=POLICIES, ids=["hysteresis", "every_k", "window", "exchanges"])
async def plugin(request) -> Compression:
    return await started(request.param)


def asked(messages: list[dict[str, Any]], caller: str = "ann") -> ChatRequest:
    data = msgspec.json.encode({"model": "gpt-4o", "messages": messages, "tools": [], "seed": 1})
    exchange = Exchange(
        "req_1", "POST", "/v1/chat/completions", "/v1/chat/completions", is_chat=True
    )
    return ChatRequest("req_1", Caller(caller), None, {}, None, Received(data, {}), exchange)  # type: ignore[arg-type]


async def compact(plugin: Compression, messages: list[dict[str, Any]], caller: str = "ann"):
    request = asked(messages, caller)
    return await plugin._compact(request, await plugin._policy(request))


def text(draw: random.Random, most: int = 40) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(0, most)))


def content(draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.8:
        return text(draw)
    parts = [
        {"type": "text", "text": text(draw)},
        {"type": "image_url", "image_url": {"url": "https://a.test/b.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ]
    return draw.sample(parts, draw.randint(0, 3))


def fuzzed(seed: int) -> list[dict[str, Any]]:
    """A chat such as clients send: parallel tools, ids that come twice, system messages anywhere."""
    draw = random.Random(seed)
    messages: list[dict[str, Any]] = [
        {"role": draw.choice(["system", "developer"]), "content": text(draw)}
        for _ in range(draw.randint(0, 2))
    ]
    for number in range(draw.randint(0, 14)):
        messages.append({"role": "user", "content": content(draw)})
        while draw.random() < 0.3:
            ids = [
                f"c{number if draw.random() < 0.9 else 0}_{n}" for n in range(draw.randint(1, 3))
            ]
            calls = [
                {"id": i, "type": "function", "function": {"name": "look", "arguments": text(draw)}}
                for i in ids
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            draw.shuffle(ids)
            messages += [{"role": "tool", "tool_call_id": i, "content": text(draw)} for i in ids]
        if draw.random() < 0.9:
            messages.append({"role": "assistant", "content": text(draw)})
        if draw.random() < 0.05:
            messages.append({"role": "system", "content": text(draw)})
    messages.append({"role": "user", "content": text(draw), "name": "ann"})
    return messages


def check(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """What upstreams refuse, and what must never change."""
    assert open_calls(after) == open_calls(before)
    assert after[-1] == before[-1]
    heads = [m for m in before if m["role"] in ("system", "developer")]
    assert [m for m in after if m["role"] in ("system", "developer")] == heads
    head = next(i for i, m in enumerate(before) if m["role"] not in ("system", "developer"))
    assert after[:head] == before[:head]
    kept = [m for m in after if m in before]
    rest = iter(before)
    assert all(any(m == other for other in rest) for m in kept), "the order changed"


async def test_of_all_chats_none_is_made_invalid_or_longer():
    plugin = await started(SMALL)
    compacted = 0
    for seed in range(CHATS):
        messages = fuzzed(seed)
        result = await compact(plugin, messages)
        assert result.after <= result.before
        if result.compaction is not None:
            compacted += 1
            check(messages, list(result.request.messages))
    assert compacted > CHATS / 5


async def test_every_policy_makes_valid_chats(plugin):
    compacted = 0
    for seed in range(150):
        messages = fuzzed(seed)
        result = await compact(plugin, messages)
        assert result.after <= result.before
        if result.compaction is not None:
            compacted += 1
            check(messages, list(result.request.messages))
    assert compacted > 20


async def test_the_same_chat_becomes_the_same_bytes_in_any_process(plugin):
    """No clock and no chance: another worker makes the same prompt."""
    other = await started(plugin.config)
    for seed in range(40):
        first, second = await compact(plugin, fuzzed(seed)), await compact(other, fuzzed(seed))
        assert first.request.data() == second.request.data()


async def test_other_fields_are_not_touched(plugin):
    for seed in range(50):
        result = await compact(plugin, fuzzed(seed))
        body = dict(result.request.body)
        assert body.pop("messages")
        assert body == {"model": "gpt-4o", "tools": [], "seed": 1}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "x " * 2_000}],
        [{"role": "system", "content": "x"}, {"role": "user", "content": "y " * 5_000}],
        [{"role": "user", "content": "y " * 300}] * 30,
        [{"role": "assistant", "content": "y " * 300}] * 30,
        [{"role": "tool", "content": "y " * 300}] * 30,
        [{"role": "user", "content": ["x", None, 3, {"type": []}]}] * 300,
        [{"role": "user"}, {"role": None}, {}] * 300,
        [{"role": "user", "content": "\u0000" * 900}] * 9,
    ],
)
async def test_odd_chats_are_survived(plugin, messages):
    result = await compact(plugin, messages)
    assert result.after <= result.before


async def test_messages_that_are_none_pass(plugin):
    request = asked([])
    for value in ("hello", [1, 2], {"a": 1}, [None], None):
        odd = request.replace(messages=value)
        result = await plugin._compact(odd, await plugin._policy(odd))
        assert result.request is odd


async def test_a_huge_chat_takes_no_time_to_plan():
    plugin = await started(CompressionOptions())
    chat = [m for n in range(2_000) for m in turn_of(n)] + [{"role": "user", "content": "So?"}]
    result = await compact(plugin, chat)
    assert result.after < 15_000
    assert result.compaction is not None


def turn_of(number: int) -> list[dict[str, str]]:
    draw = random.Random(number)
    return [
        {"role": "user", "content": text(draw, 20)},
        {"role": "assistant", "content": text(draw, 60)},
    ]
