"""Text that is shown only after a check has passed it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from . import sse, tasks
from .errors import ContentRejected
from .wire import Chunk

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterator,
        Sequence,
    )

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


# ---- checks beside the stream


class Gate(Protocol):
    """Decides which chunks of a stream go out, and when, by checks that run beside the stream.

    Its methods return at once; only checks wait.
    """

    patience: float
    """Seconds after which `hurry` is called, as long as something is held."""

    def take(self, chunk: Chunk) -> None:
        """The next chunk has come."""

    def finish(self) -> None:
        """It was the last one."""

    def hurry(self) -> None:
        """No more has come for a while: do not wait for it."""

    def checks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Those to start now; they tell the gate themselves what they find.  One that raises ends
        the stream with its error."""

    def released(self) -> Sequence[Chunk]:
        """The chunks that may go out, since it was last asked."""

    @property
    def holds(self) -> bool:
        """Is there something that may not go out yet?"""

    @property
    def is_full(self) -> bool:
        """Is there too much to take more?"""

    @property
    def is_closed(self) -> bool:
        """Is the stream to end here, whatever is still to come?"""

    async def ending(self) -> Sequence[Chunk]:
        """What goes out last, before `[DONE]`, where the gate has closed the stream."""


def gated(make: Callable[[], Gate]) -> Transform:
    """A transform that releases chunks as a gate decides.

    The stream is read while checks run and while the client is written to, up to where the gate is
    full.  One that breaks is checked and released as far as it came.
    """

    async def through(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
        passage = _Passage(make(), chunks)
        try:
            async with aclosing(passage.run()) as released:
                async for chunk in released:
                    yield chunk
        finally:
            await passage.close()

    return through


_ENOUGH = "the reader of this stream has gone"


@contextmanager
def leaving() -> Iterator[None]:
    """Around a generator: a task that read ahead and has had enough is as good as a reader who has
    gone, and no failure of the stream."""
    try:
        yield
    except asyncio.CancelledError as cancelled:
        if cancelled.args == (_ENOUGH,):
            raise GeneratorExit from None
        raise


class _Passage:
    """One stream on its way through a gate."""

    def __init__(self, gate: Gate, chunks: AsyncIterator[Chunk]) -> None:
        self._gate = gate
        self._chunks = chunks
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._checks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        """How the stream broke."""
        self._error: BaseException | None = None
        """How a check failed."""
        self._is_over = False
        self._reader = tasks.start(self._read(), name="read ahead of a gate")

    async def run(self) -> AsyncGenerator[Chunk, None]:
        gate = self._gate
        while True:
            while ready := gate.released():
                for chunk in ready:
                    yield chunk
            self._room.set()
            if self._error is not None:
                raise self._error
            if gate.is_closed and self._failure is None:
                *others, last = await gate.ending()
                for chunk in others:
                    yield chunk
                yield Chunk(last.raw + sse.encode(b"[DONE]"), last.body)
                return
            if self._reader.done() and not self._pending():
                break
            await self._news.wait()
            self._news.clear()
        if self._failure is not None:
            raise self._failure

    def _pending(self) -> bool:
        return bool(self._checks) and not self._gate.is_closed

    async def _read(self) -> None:
        gate = self._gate
        try:
            async for chunk in self._chunks:
                gate.take(chunk)
                self._advance()
                while gate.is_full and not gate.is_closed:
                    gate.hurry()
                    self._advance()
                    self._room.clear()
                    await self._room.wait()
        except GeneratorExit:
            return
        except Exception as failure:
            self._failure = failure
        gate.finish()
        self._advance()
        self._news.set()

    def _advance(self) -> None:
        """Start the checks that are due; wake who waits for what may go out."""
        gate = self._gate
        if self._is_over:
            return
        for check in gate.checks():
            task = tasks.start(check, name="check")
            self._checks.add(task)
            task.add_done_callback(self._checked)
        if gate.holds:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(gate.patience, self._hurry)
        else:
            self._news.set()

    def _hurry(self) -> None:
        self._timer = None
        self._gate.hurry()
        self._advance()

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._checks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
        self._advance()
        self._news.set()

    async def close(self) -> None:
        """Stop reading, and the checks that nobody waits for any more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        under_way = {self._reader, *self._checks}
        for task in under_way:
            task.cancel(_ENOUGH)
        await asyncio.wait(under_way)
