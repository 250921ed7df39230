"""The index in use: read at start, and again when the file has changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .entries import FaqError, load
from .matching import Index
from .reviewed import beside

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from prometheus_client import Counter

    from proxy.plugin import Services

    from .options import FaqOptions

EVERY = 1.0
"""Seconds between two looks at the file."""

LATEST = 2.0
"""Seconds after a look in which the index is good enough; after that, requests wait for another."""


class Reading:
    """Looks after the file; requests always find a whole index."""

    def __init__(self, path: Path, options: FaqOptions, services: Services) -> None:
        self.path = path
        self._options = options
        self._log: logging.Logger = services.log
        self._services = services
        self._loads: Counter = services.metrics.counter(
            "faq_cache_loads", "Readings of the FAQ file", ["outcome"]
        )
        self._stamp: tuple[int, ...] = ()
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._index: Index | None = None

    async def start(self) -> None:
        """Read the file.  FaqError if it cannot be used."""
        self._stamp = await asyncio.to_thread(_stamp, self.path)
        self._index = await asyncio.to_thread(self._read)
        self._looked = asyncio.get_running_loop().time()

    @property
    def index(self) -> Index:
        """The index as it is."""
        assert self._index is not None
        return self._index

    async def latest(self) -> Index:
        """The index of the file as it was LATEST ago, or is now.

        Among many requests the file is read beside them.  After a silence one waits for it, so that
        nobody gets an answer that was taken out an hour ago.
        """
        late = self._since()
        if late >= LATEST:
            await self._look()
        elif late >= EVERY and not self._looking.locked():
            self._services.defer(self._look(), name="look at the FAQ file")
        return self.index

    def _since(self) -> float:
        return asyncio.get_running_loop().time() - self._looked

    async def _look(self) -> None:
        async with self._looking:
            if self._since() < EVERY:
                return  # another one has looked meanwhile
            now = asyncio.get_running_loop().time()
            stamp = await asyncio.to_thread(_stamp, self.path)
            if stamp != self._stamp:
                self._stamp = stamp
                await self._read_again()
            self._looked = now

    async def _read_again(self) -> None:
        try:
            self._index = await asyncio.to_thread(self._read)
        except FaqError as error:
            self._loads.labels("refused").inc()
            self._log.error("the FAQ stays as it was: %s", "; ".join(error.problems))
        else:
            self._loads.labels("loaded").inc()
            self._log.info("read %s again", self.path)

    def _read(self) -> Index:
        return Index(load(self.path), self._options.threshold, lexical=self._options.lexical)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes the file or the verdicts; less while one is gone."""
    return (*_stamp_of(path), *_stamp_of(beside(path)))


def _stamp_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
