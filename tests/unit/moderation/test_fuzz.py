"""Nothing is shown that no check has passed, whatever comes and however checks behave.

DRAGOMAN_GATE_RUNS says how many streams are made up: 800 if it is not set.
"""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest

from plugins.moderation.texts import texts
from proxy import sse
from proxy.wire import Chunk
from tests.unit.moderation.streams import (
    BAD,
    DONE,
    Checker,
    Unavailable,
    choice,
    gate,
    interleaved,
    stream,
)

RUNS = int(os.environ.get("DRAGOMAN_GATE_RUNS", "800"))
PARTS = 8


class Client:
    """Reads at its own speed, and looks after each chunk whether it may have seen it."""

    def __init__(self, random: Random, held) -> None:
        self._random = random
        self._held = held
        self.seen = b""
        self.shown: dict[object, str] = {}

    async def write(self, data: bytes) -> None:
        self.seen += data
        for event in sse.events(data):
            if event != DONE:
                self._look(Chunk(event))
        for _ in range(self._random.choice((0, 0, 0, 1, 10))):
            await asyncio.sleep(0)

    def _look(self, chunk: Chunk) -> None:
        for each in chunk.choices:
            for path, text in texts(each["delta"]):
                key = (each["index"], path)
                self.shown[key] = self.shown.get(key, "") + text
                track = self._held.made._tracks[key]
                assert len(self.shown[key]) <= track.passed, "shown before its check"

    def assert_covered(self, checker: Checker) -> None:
        """Every character that was shown lies in a stretch that a check has passed."""
        for key, text in self.shown.items():
            stretches = sorted(checker.passed.get(id(self._held.made._tracks[key]), []))
            reached = 0
            for start, end in stretches:
                reached = end if start <= reached else reached
            assert len(text) <= reached
            assert BAD not in text


class Held:
    """Makes the gate of a stream, and keeps it to be looked at."""

    def __init__(self, *args, **kwargs) -> None:
        self._args, self._kwargs = args, kwargs

    def __call__(self):
        self.made = gate(*self._args, **self._kwargs)
        return self.made


async def run(seed: int) -> None:
    random = Random(seed)
    is_bad = random.random() < 0.5
    n = random.choice((1, 1, 2))
    worst = random.randrange(n)
    events = interleaved(
        random, *(choice(random, i, is_bad=is_bad and i == worst) for i in range(n))
    )
    checker = Checker(random, fails=random.choice((0, 0, 0, 0.1)))
    held = Held(
        random, checker, whole=random.random() < 0.1, factor=random.choice((1, 1, 1, 4, 25))
    )
    client = Client(random, held)
    try:
        await stream(random, events).gated(held).send(client.write)
        failed = False
    except Unavailable:
        failed = True
    client.assert_covered(checker)
    whole = b"".join([*events, DONE])
    if failed:
        assert whole.startswith(client.seen)
        assert DONE not in client.seen
    elif is_bad:
        assert client.seen.endswith(DONE)
        assert client.seen.count(b"[DONE]") == 1
        assert b"content_filter" in client.seen
    else:
        assert client.seen == whole


@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_leaks_and_what_is_clean_keeps_its_bytes(part):
    for seed in range(part, RUNS, PARTS):
        try:
            await run(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
