"""Lets one request at a time into a session, whichever process serves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.plugin import Conflict, Scripting, StoreUnavailable

from .leases import Leases
from .log import PlainLog
from .scripts import SharedLog

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from proxy.plugin import Services

    from .log import Edit, Log, Place
    from .options import SessionsOptions

POLLS = (0.005, 0.2)
"""Seconds between the first two looks whether a session is free, and at most: each takes twice as
long as the one before."""

MOMENT = 0.25
"""Seconds after the end of an answer in which it is written down: the next request may be there."""

AGAIN = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds after which a turn is written once more, while the store is away."""


class Door:
    """Enters sessions and leaves them."""

    def __init__(self, services: Services, config: SessionsOptions) -> None:
        store = services.store
        self._log: Log = PlainLog(store, config.ttl)
        self._is_shared = store.is_shared and isinstance(store, Scripting)
        if store.is_shared and isinstance(store, Scripting):
            self._log = SharedLog(store, config.ttl)
        self._patience = config.max_wait if config.concurrent == "wait" else MOMENT
        self._services = services
        self._leases = Leases(self._log, lambda work: services.defer(work, name="leases"))

    def inherit(self, before: Door) -> None:
        """Go on with what it holds, and with what it could not give back."""
        self._leases = before._leases.shared()

    def close(self) -> None:
        self._leases.close()

    def defer(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do it while nobody waits.  False if there is too much of that."""
        return self._services.defer(work, name="turn")

    async def enter(self, place: Place, token: str) -> bytes:
        """The session's text, and nobody else gets it until leave() or release().

        Conflict if somebody else is in there for too long; StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        end, (pause, longest) = loop.time() + self._patience, POLLS
        while (text := await self._try(place, token)) is None:
            if loop.time() + pause > end:
                raise Conflict(
                    "Another request of this session is under way.",
                    code="session_busy",
                    headers={"retry-after": "1"},
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        self._leases.hold(place, token)
        return text

    async def leave(self, place: Place, token: str, edit: Edit) -> bool:
        """Write once.  False if the session was given to somebody else; StoreUnavailable."""
        is_written = await self._log.leave(place, token, edit)
        self._leases.let_go(token)
        return is_written

    async def release(self, place: Place, token: str) -> None:
        """Leave, and write nothing; later, if the store is away."""
        self._leases.let_go(token)
        try:
            await self._log.release(place, token)
        except StoreUnavailable:
            self._leases.owe(place, token)

    async def _try(self, place: Place, token: str) -> bytes | None:
        """Enter.  If the client leaves meanwhile, it goes on alone and is undone."""
        if not self._is_shared:
            return await self._log.enter(place, token)  # in one go: nobody leaves meanwhile
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        if not self._services.defer(self._answer(answer, place, token), name="enter"):
            return await self._log.enter(place, token)
        return await answer

    async def _answer(self, answer: asyncio.Future[bytes | None], place: Place, token: str) -> None:
        try:
            text = await self._log.enter(place, token)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(text)
        elif text is not None:
            await self.release(place, token)
