"""What checks of the input cost: part of python -m benchmarks.gate.

Beside the upstream: a real proxy before an upstream that takes 600 ms and a Moderation API that takes
174 ms (lognormal, 99 % within half a second), against the same without moderation.  Lists: 5,000 words.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from plugins.moderation.options import WordList
from plugins.moderation.rules import Rules
from tests.support.proxy import start_proxy
from tests.support.raw import ask, chat_body, request
from tests.support.upstream import RawUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.upstream import Call

TAKES = 0.6
MEDIAN, SIGMA = 0.174, 0.455
BAD = "scoundrel"
TABLES = """
[[plugins]]
use = "moderation"

[plugins.api]
base_url = "{url}"
stages = ["input"]
"""


class Measured:
    """When a question was flagged, and when the upstream saw its connection closed."""

    def __init__(self) -> None:
        self.random = Random(1)
        self.flagged: list[float] = []
        self.closed: list[float] = []

    async def judge(self, call: Call) -> None:
        await asyncio.sleep(self.random.lognormvariate(math.log(MEDIAN), SIGMA))
        bad = any(BAD in text for text in call.json["input"])
        result = {"flagged": bad, "categories": {"x": bad}, "category_scores": {"x": float(bad)}}
        await call.answer(msgspec.json.encode({"id": "m", "model": "m", "results": [result]}))
        if bad:
            self.flagged.append(time.perf_counter())

    async def speak(self, call: Call) -> None:
        if BAD in call.json["messages"][-1]["content"]:
            await call.wait_closed()
            self.closed.append(time.perf_counter())
        else:
            await asyncio.sleep(TAKES)
            await call.chat()


async def beside(count: int) -> None:
    """What the check adds to answers, and how soon the upstream is left alone."""
    measured = Measured()
    upstream, api = RawUpstream(measured.speak), RawUpstream(measured.judge)
    await upstream.start()
    await api.start()
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        bare = await start_proxy(Path(one), upstream.url)
        checked = await start_proxy(Path(other), upstream.url, TABLES.format(url=api.url))
        taken: list[list[float]] = [[], []]
        for number in range(-2, count):  # the first ones open connections
            for proxy, times in zip((bare, checked), taken, strict=True):
                start = time.perf_counter()
                await ask(proxy, request(chat_body(f"Question {number}?")))
                times.append(time.perf_counter() - start)
        for number in range(count // 2):
            await ask(checked, request(chat_body(f"You {BAD} {number}!")))
            while len(measured.closed) <= number:  # noqa: ASYNC110  # an event for each is more
                await asyncio.sleep(0.001)
        await bare.stop()
        await checked.stop()
    await upstream.stop()
    await api.stop()
    without, with_it = (quantiles(times[2:], n=100) for times in taken)
    p50, p95 = ((with_it[at] - without[at]) * 1e3 for at in (49, 94))
    print(f"{'check beside, added':24} {p50:6.1f} ms p50  {p95:6.1f} ms p95")
    after = zip(measured.flagged, measured.closed, strict=True)
    show("flag to closed upstream", [closed - flagged for flagged, closed in after])


def lists() -> None:
    """The CPU time of word lists."""
    random = Random(1)
    latin = ("".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2_500))
    chinese = ("".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in "123") for _ in range(2_500))
    made = Rules([WordList(name="x", words=(*latin, *chinese))], "input")
    asyncio.run(made.start())
    sentence = "The quick brown fox jumps over the lazy dog; 4 of 5 d0gs saw it, they say. "
    mixed = "这只狐狸跳过了那条懒狗，café 里的五个人都看见了。 The n1ght was short. "
    for name, text, length in (
        ("English", sentence, 800),
        ("mixed", mixed, 800),
        ("English", sentence, 2_000),
        ("mixed", mixed, 2_000),
    ):
        times = []
        for _ in range(2_000):
            start = time.thread_time_ns()
            made.search((text * 40)[:length])
            times.append((time.thread_time_ns() - start) / 1e9)
        show(f"lists, {length:,}, {name}", times)


def show(name: str, seconds: Sequence[float]) -> None:
    cuts = quantiles(seconds, n=100)
    print(
        f"{name:24} {cuts[49] * 1e3:6.2f} ms p50  {cuts[94] * 1e3:6.2f} ms p95"
        f"  {cuts[98] * 1e3:6.2f} ms p99"
    )
