"""What do plugins ask of Redis, and what do they leave there?

Starts a Redis server and a proxy with one plugin at a time, and chats with it: two callers, each with
one growing conversation.  Prints a table: commands for each request, by their names; keys and bytes
that a caller's conversation has at its end, and how long they live.

python -m benchmarks.store [--turns N] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import uvloop

from tests.support.process import Process
from tests.support.raw import request
from tests.support.redis import running
from tests.support.upstream import RawUpstream

if TYPE_CHECKING:
    from typing import Any

    from tests.support.redis import Server
    from tests.support.upstream import Call

CALLERS = ("sk-alice", "sk-bob")
SAID = "The quick brown fox jumps over the lazy dog, and then looks for something to eat. " * 4
"""About 80 tokens, as each side says in each turn."""

CONFIGURATION = """
upstream.base_url = "{upstream}"
server.port = 0
server.admin_port = 0
store.url = "{store}"
store.secret = "a secret for this benchmark"
store.timeout = "1 s"
telemetry.turn_log = false

[[plugins]]
{plugin}
"""

PLUGINS = {
    "rate_limit": """
use = "rate_limit"
[[plugins.limits]]
name = "fair"
requests = 60
tokens = 60_000
concurrent = 100
""",
    "budget": """
use = "budget"
keep_usage = 0
[[plugins.budgets]]
name = "month"
usd = 1_000
period = "month"
""",
    "budget, and usage": """
use = "budget"
[[plugins.budgets]]
name = "month"
usd = 1_000
period = "month"
""",
    "sessions": """
use = "sessions"
""",
    "sampling, tuned": """
use = "sampling"
[[plugins.scenes]]
name = "s"
models = ["*"]
tune.temperature = [0.0, 0.5, 1.0]
""",
    "compression": """
use = "compression"
high = 1_500
low = 500
[plugins.summariser]
model = "gpt-4o-mini"
base_url = "{upstream}"
api_key = "sk-x"
""",
    "faq_cache": """
use = "faq_cache"
responses.enabled = true
""",
}


class Left(NamedTuple):
    """What one plugin asked and left."""

    commands: dict[str, float]
    """For each request."""
    keys: float
    """For each caller with one conversation; likewise the bytes."""
    octets: float
    lives: float
    """The longest time to live of a key, in seconds."""


async def script(call: Call) -> None:
    await call.chat(SAID, (400, 80))


async def converse(process: Process, key: str, turns: int) -> None:
    """One conversation, of a client that sends everything again each time."""
    messages: list[dict[str, Any]] = []
    headers = (("Authorization", f"Bearer {key}"), ("x-dragoman-session", f"of-{key}"))
    for number in range(turns):
        messages.append({"role": "user", "content": f"{number}: {SAID}"})
        body = msgspec.json.encode({"model": "gpt-4o-mini", "messages": messages})
        async with await process.connect() as client:
            await client.send(request(body, *headers))
            answer = await client.answer(30)
        assert answer.status == 200, answer
        messages.append({"role": "assistant", "content": SAID})
        await asyncio.sleep(0.02)  # what is done after the answer


async def measure(name: str, turns: int) -> Left:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        redis = await stack.enter_async_context(running())
        upstream = RawUpstream(script)
        await upstream.start()
        stack.push_async_callback(upstream.stop)
        file = folder / "dragoman.toml"
        file.write_text(
            CONFIGURATION.format(
                upstream=upstream.url,
                store=redis.url,
                plugin=PLUGINS[name].format(upstream=upstream.url),
            )
        )
        process = await Process.start("serve", "-c", str(file), folder=folder)
        stack.push_async_callback(process.kill)
        await process.ready()
        await converse(process, "sk-warm", 2)  # connections, scripts
        await asyncio.sleep(1)
        await redis.client.flushdb()
        async with redis.client.monitor() as monitor, asyncio.TaskGroup() as group:
            told = group.create_task(commands(monitor))
            async with asyncio.TaskGroup() as talking:
                for key in CALLERS:
                    talking.create_task(converse(process, key, turns))
            await asyncio.sleep(2)  # what is written now and then
            await redis.client.echo(END)
        counted = told.result()
        found = await left(redis)
    number = turns * len(CALLERS)
    return found._replace(commands={name: times / number for name, times in counted.items()})


END = "that is all"


async def commands(monitor: Any) -> Counter[str]:
    """The commands that the proxy sends, without those that its scripts run."""
    counted: Counter[str] = Counter()
    async for told in monitor.listen():
        if END in told["command"]:
            return counted
        if told["client_type"] != "lua" and not told["command"].startswith("HELLO"):
            counted[told["command"].partition(" ")[0].upper()] += 1
    return counted


async def left(redis: Server) -> Left:
    keys = await redis.client.keys("*")
    octets = sum([await redis.client.memory_usage(key, samples=0) or 0 for key in keys])
    lives = max([await redis.client.ttl(key) for key in keys], default=0)
    return Left({}, len(keys) / len(CALLERS), octets / len(CALLERS), lives)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--only", choices=sorted(PLUGINS))
    options = parser.parse_args()
    print(f"| plugin | commands per request | keys | bytes after {options.turns} turns | kept |")
    print("|---|---|---|---|---|")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name in [options.only] if options.only else sorted(PLUGINS):
            found = runner.run(measure(name, options.turns))
            asked = ", ".join(
                f"{times:.2g} {word}" for word, times in sorted(found.commands.items())
            )
            lives = f"{found.lives / 3_600:.1f} h"
            print(f"| `{name}` | {asked} | {found.keys:.2g} | {found.octets:,.0f} | {lives} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
