"""What does a session cost: in the memory of Redis, in operations, and in CPU of a stream?

Starts a Redis server and a proxy, plays sessions whose client sends only what is new, and prints for
some numbers of turns the bytes that Redis holds for one session, beside the bytes of its messages;
then what a request costs Redis, and what listening to a chunk of a stream costs the proxy.

python -m benchmarks.sessions [--question CHARACTERS] [--answer CHARACTERS]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import uvloop

from plugins.sessions.hearing import Heard
from proxy.plugin import Chunk
from tests.support.proxy import start_proxy
from tests.support.raw import ask, chat_body, request
from tests.support.redis import running, until
from tests.support.upstream import RawUpstream

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.support.upstream import Call

TURNS = (1, 5, 20, 50, 200)
TOML = """
store.url = "{url}"
store.secret = "a secret of our own, long enough"
store.timeout = "3 s"
telemetry.turn_log = false
telemetry.estimate_usage = false
[[plugins]]
use = "sessions"
"""


async def play(question: int, answer: int) -> None:
    async def script(call: Call) -> None:
        await call.chat("a" * answer)

    upstream = RawUpstream(script)
    await upstream.start()
    async with running() as redis:
        with TemporaryDirectory() as folder:
            proxy = await start_proxy(Path(folder), upstream.url, TOML.format(url=redis.url))
            body = chat_body("q" * question)
            header = ("x-dragoman-session", "s")
            print("turns  messages  in Redis   factor")
            for turn in range(1, max(TURNS) + 1):
                await ask(proxy, request(body, header))
                if turn in TURNS:
                    await until(lambda: _is_free(redis.client))
                    await _print(
                        redis.client,
                        turn,
                        len(msgspec.json.encode(upstream.calls[-1].json["messages"])) + answer + 40,
                    )
            await _operations(redis.client, max(TURNS))
            await proxy.stop()
    await upstream.stop()


async def _is_free(client: Redis) -> bool:
    return not await client.keys("*:lease")


async def _print(client: Redis, turn: int, messages: int) -> None:
    (key,) = await client.keys("*:text")
    used = await client.memory_usage(key) or 0
    print(f"{turn:5} {messages:9,} {used:9,}  {used / messages:6.2f}")


async def _operations(client: Redis, requests: int) -> None:
    stats = await client.info("commandstats")
    scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
    calls = sum(each["calls"] for each in scripts)
    seconds = sum(each["usec"] for each in scripts) / 1e6
    print(
        f"{calls / requests:.2f} scripts for a request, {seconds / calls * 1e6:.0f} us each in Redis"
    )


def hear(count: int = 20_000) -> None:
    """A stream's chunks, decoded and joined, as the plugin does it."""
    frame = {"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    raw = [
        Chunk.of(
            {
                **frame,
                "choices": [{"index": 0, "delta": {"content": f" w{i}"}, "finish_reason": None}],
            }
        ).raw
        for i in range(count)
    ]
    heard = Heard(lambda: None)
    start = time.process_time()
    for each in raw:
        heard(Chunk(each))
    print(f"{(time.process_time() - start) / count * 1e6:.1f} us for a chunk of a stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--question", type=int, default=120)
    parser.add_argument("--answer", type=int, default=600)
    arguments = parser.parse_args()
    uvloop.run(play(arguments.question, arguments.answer))
    hear()


if __name__ == "__main__":
    main()
