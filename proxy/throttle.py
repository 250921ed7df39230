"""Says a thing once a minute, however often it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Callable


class Throttle:
    """Allows each key once in `seconds`; 1,000 keys are remembered."""

    def __init__(self, seconds: float = 60, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._said: TTLCache[tuple[object, ...], None] = TTLCache(1_000, ttl=seconds, timer=clock)

    def allows(self, *key: object) -> bool:
        if key in self._said:
            return False
        self._said[key] = None
        return True
