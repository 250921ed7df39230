"""One exchange in its session: what the client was shown, and that it is written down."""

from __future__ import annotations

import asyncio
import secrets
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.plugin import StoreUnavailable, note

from .door import AGAIN
from .hearing import Heard
from .writing import Exchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.plugin import ChatRequest, Outcome

    from .door import Door
    from .log import Edit, Place
    from .records import State

    Write = Callable[[Exchanged], tuple[Edit, State]]


class Visit:
    """What a request holds of its session, until the answer is written or there is none."""

    def __init__(
        self,
        door: Door,
        place: Place,
        request: ChatRequest,
        count: Callable[[str], None],
    ) -> None:
        self.place = place
        self.token = secrets.token_hex(8)
        self.is_out = False
        """Is there nothing to leave any more?"""
        self.heard = Heard(self._over)
        self.write: Write | None = None
        """Makes the edit of what came of it; None as long as there is nothing to write to."""
        self._door = door
        self._request = request
        self._count = count
        self._context = copy_context()  # where note() finds this plugin's span
        self._tried = asyncio.Event()

    def _over(self) -> None:
        """All of the answer was shown: the client may ask again at once."""
        if self.heard.begun:
            self._settle("complete")

    async def finished(self, _: Outcome) -> None:
        """The exchange has ended, somehow."""
        if not self.is_out and self.heard.begun:
            self._settle("incomplete")
        if not self.is_out:
            await self._door.release(self.place, self.token)
        elif self.heard.begun:
            await self._tried.wait()  # so that the trace knows of it

    def _settle(self, state: State) -> None:
        if self.write is None or self.is_out:
            return
        edit, state = self.write(self._exchanged(state))
        self.is_out = self._door.defer(self._written(edit, state))

    def _exchanged(self, state: State) -> Exchanged:
        exchange = self._request.exchange
        facts: dict[str, Any] = {"model": exchange.facts.response.get("model")}
        facts["finish_reason"] = self.heard.finish_reason
        if (usage := exchange.facts.usage) is not None:
            facts["prompt_tokens"] = usage.prompt_tokens
            facts["completion_tokens"] = usage.completion_tokens
        return Exchanged(
            self.token[:8],
            exchange.start_ns // 1_000_000_000,
            self.heard.message(),
            state,
            {name: value for name, value in facts.items() if value is not None},
        )

    async def _written(self, edit: Edit, state: State) -> None:
        """Write; while the store is away, again for a while."""
        for pause in (*AGAIN, None):
            try:
                is_written = await self._door.leave(self.place, self.token, edit)
            except StoreUnavailable:
                self._tell("unavailable")
            else:
                self._tell(state if is_written else "lost")
                self._count(state if is_written else "lost")
                return
            if pause is None:
                break
            await asyncio.sleep(pause)
        self._count("unavailable")
        await self._door.release(self.place, self.token)

    def _tell(self, outcome: str) -> None:
        facts: dict[str, Any] = {"sessions_written": outcome}
        if outcome in ("unavailable", "lost"):
            facts["sessions_degraded"] = True
        self._context.run(partial(note, **facts))
        self._tried.set()
