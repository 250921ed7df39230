"""The measures: each loads one target in one way, and says what that cost it."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from . import bodies, machine
from .bodies import LARGE, MEDIUM, SMALL
from .load import Load
from .targets import ALL_TRACED, BARE, COUNTED, DIRECT, OURS, SAMPLED, TRACED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from .bodies import Prompt
    from .targets import Running, Target
    from .upstream import Upstream

    Row: TypeAlias = dict[str, Any]

CONNECTIONS = 16
OPEN_STREAMS = 1_000
PACE = 0.02
"""Seconds between the chunks of a stream, as a fast model sends them."""
SLOW_PACE = 1.0
"""The same where a thousand streams are open."""
HELD = 20
"""Chunks of a stream that is held open.  They are enough for any machine to open them all."""
BURST = 200
"""Chunks of a stream that come at once."""


class Bench:
    """What every measure needs, and the account of what went wrong."""

    def __init__(self, upstream: Upstream, seconds: float) -> None:
        self.upstream = upstream
        self.seconds = seconds
        """How long a load runs."""
        self.wrong: Counter[str] = Counter()
        self.answers = 0

    async def load(self, load: Load, target: Running, sent: dict[str, Any], seconds: float) -> None:
        """Run a load; check what its client, the upstream and the turn log have got of it."""
        await load.run(seconds)
        answers = len(load.latencies)
        self.answers += answers
        for what, times in load.wrong.items():
            self.wrong[f"{target.name}: {what}"] += times
        for body in self.upstream.received():
            if not as_sent(msgspec.json.decode(body), {**sent, **target.target.adds}):
                self.wrong[f"{target.name}: the upstream got another request"] += 1
        if not await target.has_logged(answers):
            self.wrong[f"{target.name}: the turn log has another number of lines"] += 1


def as_sent(got: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Is a request what it should be?  Where a client wants no usage, ours asks for it."""
    asked = {"include_usage": True}
    return got == sent or (sent.get("stream") is True and got == {**sent, "stream_options": asked})


@asynccontextmanager
async def accounted(target: Running, row: Row) -> AsyncIterator[None]:
    """Put into the row the target's CPU seconds, and the share of its core that others took."""
    await target.settle()
    start, cpu, busy = perf_counter(), target.cpu(), machine.core_busy(machine.TARGET_CORE)
    yield
    await target.settle()
    took = perf_counter() - start
    row["cpu"] = target.cpu() - cpu
    if target.pid:
        others = machine.core_busy(machine.TARGET_CORE) - busy - row["cpu"]
        row["others"] = max(0.0, others / took)


async def whole(
    bench: Bench,
    target: Running,
    *,
    prompt: Prompt,
    connections: int = CONNECTIONS,
    share: float = 1.0,
) -> Row:
    """Answers in one piece, as fast as they come."""
    row: Row = {}
    bench.upstream.answers(prompt)
    body = prompt.body()
    request, expected = bodies.request(body), bodies.answer(prompt)
    warm_up = Load(target.port, request, expected, connections=connections, each=3)
    await bench.load(warm_up, target, body, seconds=10)
    load = Load(target.port, request, expected, connections=connections)
    async with accounted(target, row):
        bench.upstream.traces()
        await bench.load(load, target, body, bench.seconds * share)
    requests = len(load.latencies)
    row |= {"requests": requests, "cpu_ms": row.pop("cpu") * 1e3 / max(1, requests)}
    row |= quantiles(load.latencies)
    if target.target.traces:
        row["traced"] = bench.upstream.traces() / max(1, requests)
    return row


async def streams(
    bench: Bench,
    target: Running,
    *,
    chunks: int | None = None,
    pause: float = 0.0,
    connections: int = CONNECTIONS,
    usage: bool = True,
    share: float = 1.0,
) -> Row:
    """Streams; paced ones once per connection, for as long as the measure takes."""
    row: Row = {}
    chunks = chunks or max(1, round(bench.seconds * share / pause))
    bench.upstream.answers(SMALL, chunks=chunks, pause=pause)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    body = SMALL.body(stream=True, **options)
    load = Load(
        target.port,
        bodies.request(body),
        b"".join(bodies.events(chunks, usage=usage)),
        connections=connections,
        each=1 if pause else float("inf"),
        ramp=pause * (1 - 1 / connections) if pause else 0.0,  # no two chunks at the same time
    )
    async with accounted(target, row):
        await bench.load(load, target, body, 60 if pause else bench.seconds * share)
    sent = len(load.firsts) * chunks
    row |= {"chunks": sent, "cpu_ms": row.pop("cpu") * 1e3 / max(1, sent)}
    return row | quantiles(load.firsts)


async def held(bench: Bench, target: Running) -> Row:
    """A thousand streams at once, with a chunk now and then: what each needs in memory."""
    wanted = min(OPEN_STREAMS, (machine.room_for(3 * OPEN_STREAMS) - 100) // 2)
    body = SMALL.body(stream=True, stream_options={"include_usage": True})
    request, expected = bodies.request(body), b"".join(bodies.events(HELD, usage=True))
    bench.upstream.answers(SMALL, chunks=HELD)
    warm_up = Load(target.port, request, expected, connections=CONNECTIONS, each=10)
    await bench.load(warm_up, target, body, seconds=10)
    await target.settle()
    before = most = target.rss()
    together = 0
    bench.upstream.answers(SMALL, chunks=HELD, pause=SLOW_PACE)
    load = Load(target.port, request, expected, connections=wanted, each=1, ramp=1.0)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(bench.load(load, target, body, seconds=60))
        while not work.done():
            await asyncio.sleep(SLOW_PACE / 8)
            most, now = max(most, target.rss()), len(bench.upstream.open)
            if now == together == wanted:  # all of them, and not only just now
                bench.upstream.finish()
            together = max(together, now)
    return {"rss": most, "held": together, "kib": (most - before) / 1024 / max(1, together)}


async def counted(bench: Bench, target: Running) -> Row:
    """Memory after the first count, and with the vocabularies of all models."""
    row: Row = {}
    for name, model in (("rss_one", bodies.MODEL), ("rss_both", bodies.OTHER_MODEL)):
        bench.upstream.answers(SMALL)
        body = {**SMALL.body(), "model": model}
        load = Load(target.port, bodies.request(body), bodies.answer(SMALL), each=1)
        await bench.load(load, target, body, seconds=10)
        await target.settle()
        row[name] = target.rss()
    return row


def quantiles(seconds: list[float]) -> Row:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


@dataclass(frozen=True)
class Measure:
    name: str
    group: str
    """What `--only` calls it."""
    targets: tuple[Target, ...]
    run: Callable[[Bench, Running], Awaitable[Row]]
    once: bool = False
    """Not there and back: the second time would tell nothing."""


PROXIES = (BARE, OURS, SAMPLED, TRACED, ALL_TRACED)

# In this order: streams are held open before large bodies leave free memory behind.
MEASURES = (
    Measure("count", "memory", (COUNTED,), counted, once=True),
    Measure("held", "memory", (BARE, OURS), held, once=True),
    Measure("small", "small", (DIRECT, *PROXIES), partial(whole, prompt=SMALL)),
    Measure(
        "alone",
        "latency",
        (DIRECT, BARE, OURS),
        partial(whole, prompt=SMALL, connections=1, share=0.5),
    ),
    Measure(
        "first chunk",
        "streams",
        (DIRECT, BARE, OURS),
        partial(streams, chunks=8, connections=1, share=0.5),
    ),
    Measure("paced", "streams", (BARE, OURS), partial(streams, pause=PACE)),
    Measure(
        "paced, unasked",
        "streams",
        (BARE, OURS),
        partial(streams, pause=PACE, usage=False, share=0.5),
    ),
    Measure("burst", "streams", (BARE, OURS), partial(streams, chunks=BURST, share=0.5)),
    Measure("8k", "8k", (*PROXIES, COUNTED), partial(whole, prompt=MEDIUM, share=0.3)),
    Measure("32k", "32k", (*PROXIES, COUNTED), partial(whole, prompt=LARGE, share=0.5)),
)
