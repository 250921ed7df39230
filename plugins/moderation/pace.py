"""How often a service is asked that has limits and may fail."""

from __future__ import annotations

WIDEST = 25.0
"""How much wider windows may become: from 24 characters to 600."""
FAILURES, PAUSE_SECONDS = 5, 10.0


class Pace:
    """Shared by all streams: wider windows, and so fewer checks, for a service that is asked too
    often; none for a while, for one that fails."""

    def __init__(self) -> None:
        self.factor = 1.0
        """By how much windows are wider, and further apart, than they would be."""
        self._failures = 0
        self._paused_until = 0.0

    def allows(self, now: float) -> bool:
        return now >= self._paused_until

    def limited(self) -> None:
        """It has answered 429."""
        self.factor = min(WIDEST, self.factor * 2)

    def succeeded(self) -> None:
        self._failures = 0
        self.factor = max(1.0, self.factor * 0.95)

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures, self._paused_until = 0, now + PAUSE_SECONDS
