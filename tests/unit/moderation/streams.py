"""Streams through the gate, made up at random: slow, failing and reordering checks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from plugins.moderation.gate import ReleaseGate
from plugins.moderation.verdicts import CLEAN, Finding, Verdict
from plugins.moderation.windows import Pace, Window
from proxy import sse
from proxy.answer import LocalEvents
from proxy.errors import APIError
from proxy.exchange import Exchange
from proxy.response import StreamResponse
from proxy.wire import Chunk

if TYPE_CHECKING:
    from random import Random

BAD = "BADWORD"
BLOCKED = Verdict((Finding("bad", "block"),))
DONE = sse.encode(b"[DONE]")
ALPHABET = "abcdefg hij. klm! 天地玄黄。宇宙 洪荒，\n"


def event(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return sse.encode(msgspec.json.encode({"id": "x", "choices": [choice]}))


def words(random: Random, most: int = 300) -> str:
    return "".join(random.choice(ALPHABET) for _ in range(random.randint(1, most)))


def deltas(random: Random, path: str, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    start = 0
    while start < len(text):
        size = random.choice((1, 2, 4, 9, 40))
        piece = text[start : start + size]
        start += size
        if path == "tool":
            call = {"index": 0, "function": {"arguments": piece}}
            found.append({"tool_calls": [call]})
        else:
            found.append({path: piece})
    return found


def choice(random: Random, index: int, *, is_bad: bool) -> list[bytes]:
    """The events of one choice: a role, reasoning, text, a tool call, an end."""
    paths = [
        path for path in ("reasoning_content", "content", "tool") if random.random() < 0.7
    ] or ["content"]
    worst = random.choice(paths) if is_bad else None
    events = [event(index, {"role": "assistant", "content": ""})]
    for path in paths:
        text = words(random)
        if path == worst:
            place = random.randint(0, len(text))
            text = text[:place] + BAD + text[place:]
        events += [event(index, delta) for delta in deltas(random, path, text)]
    return [*events, event(index, {}, "tool_calls" if paths[-1] == "tool" else "stop")]


def interleaved(random: Random, *choices: list[bytes]) -> list[bytes]:
    """The events of all choices, each in its own order, some of them together in one chunk's run."""
    queues, events = [list(each) for each in choices], []
    while any(queues):
        queue = random.choice([each for each in queues if each])
        events.append(queue.pop(0))
    return events


class Events:
    """The source of a stream that comes piece by piece."""

    def __init__(self, random: Random, events: list[bytes]) -> None:
        self._random = random
        self._events = events

    async def read(self) -> bytes:
        for _ in range(self._random.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        count = self._random.choice((1, 1, 1, 2, 5))
        some, self._events = self._events[:count], self._events[count:]
        return b"".join(some)

    async def close(self) -> None:
        self._events = []


class Unavailable(APIError):
    pass


class Checker:
    """Finds BAD in a window, after a while; remembers what has passed.  Some of its checks fail."""

    def __init__(self, random: Random, *, fails: float = 0) -> None:
        self._random = random
        self._fails = fails
        self.passed: dict[int, list[tuple[int, int]]] = {}
        """By the identity of a track, the stretches of it that have passed."""
        self.count = 0

    async def __call__(self, window: Window) -> Verdict:
        self.count += 1
        for _ in range(self._random.choice((0, 0, 1, 2, 6, 20))):
            await asyncio.sleep(0)
        if self._random.random() < self._fails:
            raise Unavailable("The check failed.")
        if BAD in window.text:
            return BLOCKED
        self.passed.setdefault(id(window.track), []).append((window.start, window.end))
        return CLEAN


async def ending(last: Chunk, choices: set[int]) -> list[Chunk]:
    return [Chunk(event(index, {}, "content_filter")) for index in sorted(choices)]


def gate(
    random: Random, checker: Checker, *, whole: bool = False, factor: float = 1
) -> ReleaseGate:
    pace = Pace(
        first=random.choice((1, 8, 24)),
        window=random.choice((1, 16, 64)),
        most=random.choice((50, 600)),
        interval=random.choice((0, 0.0001, 0.001)),
        context=random.choice((8, 50, 200)),
        before=random.choice((0, 300)),
        parallel=random.choice((1, 2, 4)),
    )
    return ReleaseGate(checker, ending, pace, whole=whole, factor=lambda: factor)


def stream(random: Random, events: list[bytes]) -> StreamResponse:
    exchange = Exchange("x", "POST", "/v1/chat/completions", "/v1/chat/completions")
    return StreamResponse(exchange, Events(random, [*events, DONE]))


def local(*chunks: dict[str, Any]) -> StreamResponse:
    exchange = Exchange("x", "POST", "/v1/chat/completions", "/v1/chat/completions")
    return StreamResponse(exchange, LocalEvents(chunks))
