"""What a checked stream costs: python -m benchmarks.gate.

Time: answers of 1,500 characters at 60 tokens a second, with a check that takes 174 ms (lognormal,
99 % within half a second), against the same stream without a check.  The clock is simulated: waits
take no time.  CPU: the gate with all that goes with it, per delta.  Then checks of the input.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from dataclasses import dataclass, field
from random import Random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import msgspec

from plugins.moderation.gate import ReleaseGate
from plugins.moderation.verdicts import CLEAN, Verdict
from plugins.moderation.windows import Pace, Window
from proxy import sse
from proxy.exchange import Exchange
from proxy.response import StreamResponse

from .checks import beside, lists

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from proxy.wire import Chunk

RATE = 60
LENGTH = 1_500
MEDIAN, SIGMA = 0.174, 0.455
WORDS = (
    "The proxy reads the stream while checks run and the client is written to. A window ends with "
    "a sentence where there is one, and else with a word; it is asked about with what stands before "
    "it. Nothing is shown that no check has passed, and what is clean keeps its bytes. "
).split(" ")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to whatever comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@dataclass
class Source:
    """A model's answer, a token at a time."""

    events: list[bytes]
    pause: float
    place: int = 0

    async def read(self) -> bytes:
        if self.pause:
            await asyncio.sleep(self.pause)
        self.place += 1
        return self.events[self.place - 1] if self.place <= len(self.events) else b""

    async def close(self) -> None:
        self.place = len(self.events)


@dataclass
class Seen:
    """When text came to the client."""

    clock: Callable[[], float]
    times: list[float] = field(default_factory=list)

    async def write(self, data: bytes) -> None:
        if b'"content":' in data:
            self.times.append(self.clock())


def answer(random: Random) -> list[bytes]:
    text, events = "", [event({"role": "assistant"})]
    while len(text) < LENGTH:
        word = random.choice(WORDS) + " "
        text += word
        events += [event({"content": piece}) for piece in (word[:6], word[6:]) if piece]
    return [*events, event({}, "stop"), sse.encode(b"[DONE]")]


def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    frame = {"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return sse.encode(msgspec.json.encode({**frame, "choices": [choice]}))


def response(events: list[bytes], pause: float) -> StreamResponse:
    exchange = Exchange("x", "POST", "/v1/chat/completions", "/v1/chat/completions")
    return StreamResponse(exchange, Source(events, pause))


async def simulated(random: Random, pace: Pace) -> tuple[float, float, float, int]:
    """What the gate adds to the first text and to the end, the longest pause, and the checks."""
    clock = asyncio.get_running_loop().time
    checks = 0

    async def check(_: Window) -> Verdict:
        nonlocal checks
        checks += 1
        await asyncio.sleep(random.lognormvariate(math.log(MEDIAN), SIGMA))
        return CLEAN

    async def ending(*_: Any) -> list[Any]:
        return []

    events = answer(random)
    begin, gated = clock(), Seen(clock)
    await (
        response(events, 1 / RATE).gated(lambda: ReleaseGate(check, ending, pace)).send(gated.write)
    )
    end = clock() - begin
    first = gated.times[0] - begin
    pauses = [b - a for a, b in zip(gated.times, gated.times[1:], strict=False)]
    plain_end, plain_first = (len(events) + 1) / RATE, 2 / RATE
    return first - plain_first, end - plain_end, max(pauses), checks


async def cpu(random: Random, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per delta that it takes to cut the stream into chunks and to decode them, and that
    the gate takes beside that."""

    async def check(_: Window) -> Verdict:
        await asyncio.sleep(0)
        return CLEAN

    async def ending(*_: Any) -> list[Any]:
        return []

    async def nowhere(_: bytes) -> None:
        pass

    async def read(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        async for chunk in chunks:
            if chunk.body:
                yield chunk

    async def seconds(response: StreamResponse) -> float:
        start = time.process_time()
        await response.send(nowhere)
        return time.process_time() - start

    reading, gating = [], []
    for _ in range(rounds):
        events = answer(random)
        ticks = iter(range(1 << 40))
        pace = Pace(interval=30)  # as many chunks as come in half a second

        def make(ticks: Any = ticks, pace: Pace = pace) -> ReleaseGate:
            return ReleaseGate(check, ending, pace, clock=lambda: float(next(ticks)))

        bare = await seconds(response(events, 0))
        read_too = await seconds(response(events, 0).map_chunks(read))
        gated = await seconds(response(events, 0).gated(make))
        reading.append((read_too - bare) / len(events))
        gating.append((gated - read_too) / len(events))
    return reading, gating


def shown(name: str, values: list[float]) -> str:
    cuts = quantiles(values, n=100)
    return f"{name:24} {cuts[49] * 1e3:6.0f} ms p50  {cuts[94] * 1e3:6.0f} ms p95"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--questions", type=int, default=100, help="to the check beside")
    options = parser.parse_args()
    random = Random(1)

    async def all_of_them() -> list[tuple[float, float, float, int]]:
        return [await simulated(random, Pace()) for _ in range(options.answers)]

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        found = runner.run(all_of_them())
    firsts, ends, pauses, checks = zip(*found, strict=True)
    print(shown("first text, added", list(firsts)))
    print(shown("end of answer, added", list(ends)))
    print(shown("longest pause", list(pauses)))
    print(f"{'checks per answer':24} {sum(checks) / len(checks):6.1f} mean  {max(checks):6d} most")
    for name, costs in zip(
        ("reading chunks", "the gate"), asyncio.run(cpu(random, 300)), strict=True
    ):
        least, middle = min(costs) * 1e6, median(costs) * 1e6
        print(f"{name + ', CPU per delta':24} {least:6.1f} us least {middle:6.1f} us median")
    lists()
    asyncio.run(beside(options.questions))


if __name__ == "__main__":
    main()
