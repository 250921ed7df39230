"""Text that is shown only after a check has passed it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from . import sse
from .errors import ContentRejected
from .wire import Chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from .response import Transform


def hold_text(
    check: Callable[[str], Awaitable[None]],
    rejected: Callable[[], None],
    *,
    every: int,
    overlap: int,
) -> Transform:
    """A transform that releases chunks after `check` has passed the text they hold.

    `check` gets the text that waits, with up to `overlap` characters of what was released before
    it, each time `every` characters wait, and at the end; the text of each choice by itself.  If it
    raises ContentRejected, what waits is dropped, and the stream ends with `finish_reason`
    `content_filter`; what was released before cannot be called back.  `rejected` is told of it.
    """

    async def held(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
        waiting: list[Chunk] = []
        unchecked: dict[int, str] = {}
        passed: dict[int, str] = {}

        async def release() -> AsyncGenerator[Chunk, None]:
            for index, text in unchecked.items():
                await check(passed.get(index, "") + text)
            for index, text in unchecked.items():
                passed[index] = (passed.get(index, "") + text)[-overlap:] if overlap else ""
            unchecked.clear()
            released = waiting.copy()
            waiting.clear()
            for chunk in released:
                yield chunk

        try:
            async for chunk in chunks:
                waiting.append(chunk)
                for index, text in chunk.texts().items():
                    unchecked[index] = unchecked.get(index, "") + text
                if max(map(len, unchecked.values()), default=every) >= every:
                    async with aclosing(release()) as released:
                        async for ready in released:
                            yield ready
            async with aclosing(release()) as released:
                async for ready in released:
                    yield ready
        except ContentRejected:
            rejected()
            choices = set(unchecked) | set(passed) or {0}
            for end in _content_filter(waiting[-1], choices):
                yield end

    return held


def _content_filter(like: Chunk, choices: set[int]) -> list[Chunk]:
    """The chunks that end a stream whose text was rejected: a normal end for every client."""
    frame = {k: v for k, v in like.body.items() if k not in ("choices", "usage")}
    ends = [
        Chunk.of(
            {
                **frame,
                "choices": [{"index": index, "delta": {}, "finish_reason": "content_filter"}],
            }
        )
        for index in sorted(choices)
    ]
    # What the upstream would still say is not read: its [DONE] must come from us.
    ends[-1] = Chunk(ends[-1].raw + sse.encode(b"[DONE]"), ends[-1].body)
    return ends
