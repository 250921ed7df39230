"""What counting tokens costs: python -m benchmarks.tokens.

Times are CPU time of the whole process in milliseconds, medians where there are several.  A stall
is the longest time for which the event loop was late, by the clock, while a body was counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import statistics
import string
import time
from typing import TYPE_CHECKING, Any

from proxy.tokens import Tokenizer

from . import machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MODEL = "gpt-4o"
ROUNDS = 15

# The commonest words of English, one token each: such prose has as many characters to a token.
WORDS = (
    "the of and to a in that is was he for it with as his on be at by had not are but from or "
    "have an they which one you were all her she there would their we him been has when no more "
    "if out so up said what its about than into them can only other time new some could these two "
    "may first then do any like my now over such our man me even most made after also did many "
    "before must through years where much your way down should because long each just state those "
    "people how too little good world make very year still see own work men day get here old both"
)


def prose(seed: int, characters: int) -> str:
    """Sentences of common words, always the same for a seed."""
    pick = random.Random(seed)
    words = WORDS.split()
    text = ""
    while len(text) < characters:
        sentence = " ".join(pick.choices(words, k=pick.randint(5, 20)))
        text += sentence.capitalize() + pick.choice([". ", ".\n", "? "])
    return text[:characters]


def chat(messages: int, characters: int, seed: int = 0) -> dict[str, Any]:
    """A chat of so many messages of so many characters."""
    contents = (prose(seed + index, characters) for index in range(messages))
    roles = ("user", "assistant")
    return {
        "model": MODEL,
        "messages": [
            {"role": roles[index % 2], "content": content} for index, content in enumerate(contents)
        ],
    }


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def question(content: str) -> bytes:
    return encoded({"model": MODEL, "messages": [{"role": "user", "content": content}]})


async def loaded(**options: Any) -> Tokenizer:
    tokenizer = Tokenizer(**options)
    await tokenizer.load(MODEL)
    return tokenizer


async def cpu(*works: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of work: the median."""
    spent = []
    for work in works:
        start = time.process_time()
        await work()
        spent.append((time.process_time() - start) * 1e3)
    return statistics.median(spent)


async def stall(work: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds for which the loop was late, at worst, during the work."""
    latest = 0.0

    async def tick() -> None:
        nonlocal latest
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            latest = max(latest, time.perf_counter() - start - 0.001)

    gc.collect()
    gc.freeze()  # the benchmark's own bodies are not the tokenizer's garbage
    async with asyncio.TaskGroup() as group:
        ticker = group.create_task(tick())
        await asyncio.sleep(0.01)
        await work()
        await asyncio.sleep(0.01)
        ticker.cancel()
    gc.unfreeze()
    return latest * 1e3


def row(name: str, *cells: object) -> None:
    shown = (f"{cell:,.2f}" if isinstance(cell, float) else f"{cell}" for cell in cells)
    print(f"| {name:30s} | " + " | ".join(f"{cell:>10s}" for cell in shown) + " |")


async def memory() -> None:
    """What vocabularies and memories occupy."""
    before = machine.rss(os.getpid())

    def grown() -> int:
        nonlocal before
        now = machine.rss(os.getpid())
        more, before = now - before, now
        return more >> 20

    tokenizer = Tokenizer()
    row("memory", "MiB", "load ms")
    for model in ("gpt-4o", "gpt-4"):
        spent = await cpu(lambda model=model: tokenizer.load(model))  # type: ignore[misc]
        row(f"vocabulary of {model}", grown(), spent)
    for seed in range(0, 50_000, 200):
        await tokenizer.count(chat(200, 100, seed))
    row("50,000 remembered messages", grown())
    tokenizer.close()


async def cold_and_warm(messages: int) -> None:
    """One body at its first sight and at every further one."""
    tokenizer = await loaded()
    body = chat(messages, 940)
    data = encoded(body)
    fresh = [encoded(chat(messages, 940, seed=1_000 * (1 + round_))) for round_ in range(ROUNDS)]
    cold = await cpu(*(lambda data=data: tokenizer.count(data) for data in fresh))
    count = await tokenizer.count(data)
    warm = await cpu(*[lambda: tokenizer.count(data)] * ROUNDS)
    decoded = await cpu(*[lambda: tokenizer.count(body)] * ROUNDS)
    row(f"{messages} messages", len(data) // 1000, count.tokens, cold, warm, decoded)
    tokenizer.close()


async def growing_chat() -> None:
    """A chat that is sent anew at each of its 60 turns."""
    turns = [encoded(chat(2 * turn + 1, 1_500)) for turn in range(60)]
    spent = []
    for entries in (50_000, 0):
        tokenizer = await loaded(memo_entries=entries)

        async def send(tokenizer: Tokenizer = tokenizer) -> None:
            for turn in turns:
                await tokenizer.count(turn)

        spent.append(await cpu(send))
        tokenizer.close()
    row("60 turns, each sent anew", *spent, spent[1] / spent[0])


async def under_load() -> None:
    """Forty cold bodies of 41,000 tokens, one each 30 ms."""
    bodies = [encoded(chat(200, 940, seed=1_000 * seed)) for seed in range(40)]
    tokenizer = await loaded()

    async def arrive() -> None:
        async with asyncio.TaskGroup() as group:
            for data in bodies:
                group.create_task(tokenizer.count(data))
                await asyncio.sleep(0.03)

    row("40 cold bodies in 1.2 s", await stall(arrive), await stall(lambda: asyncio.sleep(1.2)))
    tokenizer.close()


def hostile_bodies() -> dict[str, bytes]:
    pick = random.Random(1)
    lone = b'{"model":"gpt-4o","messages":[{"role":"user","content":"%s"}]}'
    numbered = [{"role": "user", "content": str(index)} for index in range(50_000)]
    return {
        "2 M spaces": question(" " * 2_000_000),
        "4 M random letters": question("".join(pick.choices(string.ascii_letters, k=3_999_900))),
        "8 M random letters": question("".join(pick.choices(string.ascii_letters, k=8_000_000))),
        "1 M of =": question("=" * 1_000_000),
        "1 M newlines": question("\n" * 1_000_000),
        "1 M random Chinese characters": question(
            "".join(map(chr, pick.choices(range(0x4E00, 0x9FA5), k=1_000_000)))
        ),
        "100,000 times <|endoftext|>": question("<|endoftext|>" * 100_000),
        "a lone surrogate": lone % rb"\ud800",
        "170,000 lone surrogates": lone % (rb"\ud800" * 170_000),
        "4 M escapes": question('"\n' * 2_000_000),
        "50,000 messages": encoded({"model": MODEL, "messages": numbered}),
        "nested 100,000 deep": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    }


async def hostile(name: str, data: bytes) -> None:
    tokenizer = await loaded()
    counts = []

    async def work() -> None:
        counts.append(await tokenizer.count(data))

    start = time.process_time()
    late = await stall(work)
    spent = (time.process_time() - start) * 1e3
    row(name, counts[0].tokens, counts[0].exactness, spent, late)
    tokenizer.close()


async def main() -> None:
    await memory()
    row("body", "KB", "tokens", "cold ms", "warm ms", "decoded ms")
    for messages in (1, 20, 160):
        await cold_and_warm(messages)
    row("", "memory ms", "without ms", "ratio")
    await growing_chat()
    row("", "stall ms", "idle ms")
    await under_load()
    row("hostile body", "tokens", "exactness", "CPU ms", "stall ms")
    for name, data in hostile_bodies().items():
        await hostile(name, data)


if __name__ == "__main__":
    asyncio.run(main())
