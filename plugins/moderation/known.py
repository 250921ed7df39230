"""Verdicts that need not be found again."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from .verdicts import Verdict


class Known:
    """The verdicts about so many texts, those that were asked for last."""

    def __init__(self, entries: int) -> None:
        self._verdicts: LRUCache[bytes, Verdict] = LRUCache(entries)

    def get(self, text: str) -> Verdict | None:
        return self._verdicts.get(_key(text))

    def put(self, text: str, verdict: Verdict) -> None:
        if self._verdicts.maxsize:
            self._verdicts[_key(text)] = verdict


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
