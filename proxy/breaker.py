"""A circuit breaker: what cannot be reached is not tried by every request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Breaker:
    """Opens after `failures` in a row within `window` seconds; then lets one probe through each
    `pause` seconds, and closes when a probe succeeds."""

    def __init__(
        self,
        *,
        failures: int = 5,
        window: float = 10.0,
        pause: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._window = window
        self._pause = pause
        self._clock = clock
        self._failed: list[float] = []
        self._next_probe: float | None = None

    @property
    def is_open(self) -> bool:
        return self._next_probe is not None

    def allows(self) -> bool:
        """May this call be tried?  While open, the one that is told so is the probe."""
        if self._next_probe is None:
            return True
        now = self._clock()
        if now < self._next_probe:
            return False
        self._next_probe = now + self._pause
        return True

    def succeeded(self) -> None:
        if self._failed:
            self._failed.clear()
        self._next_probe = None

    def failed(self) -> bool:
        """Note a failure; True if it is the one that opens the circuit."""
        now = self._clock()
        self._failed = [t for t in self._failed if now - t < self._window]
        self._failed.append(now)
        if self._next_probe is None and len(self._failed) >= self._limit:
            self._next_probe = now + self._pause
            return True
        return False
