"""The gate of a stream: nothing is shown before a check that covers it has passed."""

from __future__ import annotations

import asyncio
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.plugin import Chunk

from .texts import ASIDE, STRUCTURE, TOOLS, masked, texts
from .windows import Track

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from typing import TypeAlias

    from .texts import Path
    from .verdicts import Span, Verdict
    from .windows import Pace, Window

    Check: TypeAlias = Callable[[Window], Awaitable[Verdict]]
    Key: TypeAlias = tuple[Any, Path]
    Ending: TypeAlias = Callable[[Chunk, set[int]], Awaitable[Sequence[Chunk]]]

FULL = 20_000
"""Chunks that are held or wait for the client, at most."""


class Piece(NamedTuple):
    """The text that a chunk adds to a track."""

    key: Key
    track: Track
    start: int
    end: int


class Held(NamedTuple):
    """A chunk that waits, and the texts that have to pass before it may go out."""

    chunk: Chunk
    pieces: Sequence[Piece]
    ended: Sequence[int]
    """The choices that it ends."""

    @property
    def may_go(self) -> bool:
        for piece in self.pieces:  # noqa: SIM110  # a generator takes three times as long
            if piece.track.passed < piece.end:
                return False
        return True


class ReleaseGate:
    """Holds chunks back until the windows that cover their text have passed; in order, unchanged.

    Every text of every choice is checked by itself.  What has no text keeps its place.
    """

    def __init__(
        self,
        check: Check,
        ending: Ending,
        pace: Pace,
        *,
        factor: Callable[[], float] = lambda: 1.0,
        clock: Callable[[], float] | None = None,
        whole: bool = False,
    ) -> None:
        self.patience = 2 * pace.interval
        self._check = check
        self._ending = ending
        self._pace = pace
        self._factor = factor
        self._clock = clock or asyncio.get_running_loop().time
        self._whole = whole
        """Nothing goes out before the stream is complete."""
        self._held: deque[Held] = deque()
        self._ready: list[Chunk] = []
        self._tracks: dict[Key, Track] = {}
        self._open: dict[int, set[Key]] = {}
        """Of each choice, the texts that were added to last."""
        self._waiting: dict[Track, None] = {}
        """The texts of which something is in no window yet."""
        self._ended: set[int] = set()
        """The choices whose end has gone out."""
        self._last: Chunk | None = None
        self._masks = False
        """Has anything been found that is to be masked?"""
        self._is_closed = False

    # ---- what comes

    def take(self, chunk: Chunk) -> None:
        if self._is_closed:
            return
        self._last = chunk
        held = self._read(chunk)
        if held.pieces or self._held:
            self._held.append(held)
        else:
            self._go(held)

    def _read(self, chunk: Chunk) -> Held:
        if not chunk.body:  # a client may be able to read what we cannot
            unread = chunk.raw.decode("utf-8", "replace")
            return Held(chunk, [self._add((None, ()), unread)], ())
        pieces: list[Piece] = []
        ended: list[int] = []
        for choice in chunk.choices:
            index, delta = choice.get("index", 0), choice.get("delta")
            if index not in self._open:
                self._open[index] = set()
            added = self._said(index, delta) if delta else []
            if not _USUAL.issuperset(choice):
                others = {k: v for k, v in choice.items() if k not in _USUAL}
                added += [self._add((index, path), text) for path, text in texts(others)]
            pieces += added
            if choice.get("finish_reason"):
                ended.append(index)
                self._end(index)
            elif added:
                self._switch(index, added)
        return Held(chunk, pieces, ended)

    def _said(self, index: Any, delta: Any) -> list[Piece]:
        """The texts of a delta; as a rule it holds one, on its top level."""
        if not isinstance(delta, dict):
            return [self._add((index, path), text) for path, text in texts(delta)]
        added = []
        for name, value in delta.items():
            if isinstance(value, str):
                if value and name not in STRUCTURE:
                    added.append(self._add((index, (name,)), value))
            elif value is not None:
                found = texts(value, (name,))
                added += [self._add((index, path), text) for path, text in found]
        return added

    def _add(self, key: Key, text: str) -> Piece:
        track = self._tracks.get(key)
        if track is None:
            choice, path = key
            track = Track(choice, is_whole=self._whole or path[:1] in _TOOLS)
            self._tracks[key] = track
        self._waiting[track] = None
        start = track.end
        return Piece(key, track, start, track.add(text))

    def _switch(self, index: int, added: Sequence[Piece]) -> None:
        """A choice that goes on with another text has completed the one before."""
        before = self._open[index]
        if len(before) == len(added) and before.issuperset(map(_KEY, added)):
            return
        now = self._open[index] = {piece.key for piece in added}
        if before and not self._whole:
            for key in before - now:
                self._tracks[key].complete()

    def _end(self, index: int) -> None:
        if not self._whole:
            for key, track in self._tracks.items():
                if key[0] == index:
                    track.close()

    def finish(self) -> None:
        for track in self._tracks.values():
            track.close()

    def hurry(self) -> None:
        now, seconds = self._clock(), self.patience * self._factor()
        for track in self._tracks.values():
            if self.is_full or (not track.is_whole and track.has_waited(seconds, now)):
                track.close()

    # ---- checks

    def checks(self) -> list[Coroutine[Any, Any, None]]:
        if not self._waiting or self._is_closed:
            return []
        now, factor = self._clock(), self._factor()
        started = []
        for track in list(self._waiting):
            while (window := track.due(self._pace, factor, now)) is not None:
                started.append(self._judge(window))
            if not track.waits:
                del self._waiting[track]
        return started

    async def _judge(self, window: Window) -> None:
        verdict = await self._check(window)
        if self._is_closed:
            return
        if verdict.blocks:
            self._is_closed = True
            self._held.clear()
            return
        window.track.passes(window, verdict.masked)
        self._masks = self._masks or bool(window.track.masks)
        while self._held and self._held[0].may_go:
            self._go(self._held.popleft())

    # ---- what goes

    def _go(self, held: Held) -> None:
        self._ready.append(_masked(held) if self._masks else held.chunk)
        if held.ended:
            self._ended.update(held.ended)

    def released(self) -> list[Chunk]:
        ready, self._ready = self._ready, []
        return ready

    @property
    def holds(self) -> bool:
        return bool(self._held)

    @property
    def is_full(self) -> bool:
        return not self._whole and len(self._held) + len(self._ready) > FULL

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    async def ending(self) -> Sequence[Chunk]:
        assert self._last is not None
        return await self._ending(self._last, set(self._open) - self._ended or {0})


_KEY = attrgetter("key")
_TOOLS = {(name,) for name in TOOLS}
_USUAL = ASIDE | {"delta"}


def _masked(held: Held) -> Chunk:
    """The chunk with asterisks where its text is to be masked."""
    if not any(piece.track.masks for piece in held.pieces):
        return held.chunk
    spans = {piece.key: list(_within(piece, piece.track.masks)) for piece in held.pieces}
    if not any(spans.values()):
        return held.chunk
    choices = [_with_masks(choice, spans) for choice in held.chunk.choices]
    return Chunk.of({**held.chunk.body, "choices": choices})


def _with_masks(choice: dict[str, Any], spans: Mapping[Key, Sequence[Span]]) -> dict[str, Any]:
    index = choice.get("index", 0)
    here = {path: found for (each, path), found in spans.items() if each == index}
    if not any(here.values()):
        return choice
    # The tokens of logprobs spell out what is masked.
    bare = {**choice, "logprobs": None} if choice.get("logprobs") else choice
    return {**bare, "delta": masked(choice.get("delta") or {}, here)}


def _within(piece: Piece, masks: Iterable[Span]) -> Iterator[Span]:
    for start, end in masks:
        if start < piece.end and end > piece.start:
            yield start - piece.start, end - piece.start
