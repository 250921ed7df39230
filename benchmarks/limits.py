"""Are limits exact over many processes on one Redis, and what does a decision cost?

Starts a Redis server, some proxies in processes of their own and many clients, which come again at
once; prints how many requests were let through, and how many may be.  Then it kills clients in the
middle of their streams and looks for what they left behind.

python -m benchmarks.limits [--processes N] [--clients N] [--seconds S] [--killed N] [--cost]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvloop

from plugins.rate_limit.buckets import LocalBuckets
from plugins.rate_limit.demand import Demands
from plugins.rate_limit.options import Limit
from tests.support.process import Process
from tests.support.raw import chat_body, request
from tests.support.redis import running
from tests.support.requests import chat_request
from tests.support.upstream import RawUpstream

if TYPE_CHECKING:
    from tests.support.redis import Server
    from tests.support.upstream import Call

REQUESTS = 600
TOKENS = 20_000
ANSWER = 20
CONFIGURATION = """
upstream.base_url = "{upstream}"
server.port = 0
server.admin_port = 0
store.url = "{store}"
store.secret = "a secret for this benchmark"
store.timeout = "1 s"
telemetry.turn_log = false

[[plugins]]
use = "rate_limit"

[[plugins.limits]]
name = "fair"
requests = {requests}
tokens = {tokens}
concurrent = 10_000
"""


async def script(call: Call) -> None:
    if call.json.get("stream"):
        await call.start_stream()
        await call.wait_closed(600)
    else:
        await call.chat("hello", (8, ANSWER))


async def load(processes: list[Process], clients: int, seconds: float) -> Counter[str]:
    """What many clients get, and the tokens that were used."""
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    body = request(chat_body(max_tokens=ANSWER), ("Authorization", "Bearer sk-benchmark"))

    async def use(process: Process) -> None:
        async with await process.connect() as client:
            while time.monotonic() < end:
                await client.send(body)
                answer = await client.answer(30)
                found[str(answer.status)] += 1
                if answer.status == 200:
                    found["tokens"] += 8 + ANSWER
                else:
                    await asyncio.sleep(random.uniform(0.05, 0.4))

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(use(processes[number % len(processes)]))
    return found


async def leave(processes: list[Process], number: int, redis: Server) -> int:
    """Clients who leave in the middle; how many of their places are still held."""
    body = request(chat_body(stream=True, max_tokens=ANSWER), ("Authorization", "Bearer sk-other"))
    slots = asyncio.Semaphore(100)

    async def come_and_go(process: Process) -> None:
        async with slots, await process.connect() as client:
            await client.send(body)
            await asyncio.sleep(random.uniform(0, 0.05))
            client.reset()

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(come_and_go(processes[index % len(processes)]))
    await asyncio.sleep(2)
    keys = await redis.client.keys("*concurrent")
    return sum([await redis.client.zcard(key) for key in keys])


async def measure(options: argparse.Namespace) -> bool:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        redis = await stack.enter_async_context(running())
        upstream = RawUpstream(script)
        await upstream.start()
        stack.push_async_callback(upstream.stop)
        processes = []
        for number in range(options.processes):
            file = folder / f"{number}.toml"
            file.write_text(
                CONFIGURATION.format(
                    upstream=upstream.url, store=redis.url, requests=REQUESTS, tokens=TOKENS
                )
            )
            process = await Process.start("serve", "-c", str(file), folder=folder)
            stack.push_async_callback(process.kill)
            processes.append(await process.ready())
        begun = time.monotonic()
        found = await load(processes, options.clients, options.seconds)
        took = time.monotonic() - begun
        requests = REQUESTS * (1 + took / 60)
        tokens = TOKENS * (1 + took / 60)
        print(f"{options.processes} processes, {options.clients} clients, {took:.1f} s")
        print(f"requests   {found['200']} let through of {requests:.0f}; {found['429']} refused")
        print(f"tokens     {found['tokens']} used of {tokens:.0f}, and one answer of {ANSWER}")
        held = await leave(processes, options.killed, redis)
        print(f"places     {held} held after {options.killed} killed clients")
        return found["200"] <= requests and found["tokens"] <= tokens + 8 + ANSWER and not held


async def cost() -> None:
    """CPU time of a decision in memory: one limit of requests, and one of everything."""
    every = Limit(name="b", per="caller+model", requests=10**9, concurrent=10**6)
    for name, limits in {
        "one limit": [Limit(name="a", requests=10**9)],
        "three": [Limit(name="a", requests=10**9), every],
    }.items():
        demands, buckets, asked = Demands(limits), LocalBuckets(), chat_request()
        begun = time.process_time()
        for number in range(20_000):
            made = demands.of(asked)
            await buckets.reserve(made, f"{number}")
            await buckets.settle(made, f"{number}", [0.0] * len(made))
        took = time.process_time() - begun
        print(f"CPU        {took / 20_000 * 1e6:.1f} us for a decision in memory, {name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--killed", type=int, default=1_000)
    parser.add_argument("--cost", action="store_true", help="only the cost of a decision")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cost())
        return 0 if options.cost or runner.run(measure(options)) else 1


if __name__ == "__main__":
    sys.exit(main())
