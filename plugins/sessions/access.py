"""What a client may ask about its sessions, and have deleted."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from proxy.plugin import Conflict, Endpoint, EndpointResponse, NotFound

from .export import belonging, exported
from .naming import checked, place
from .records import Session
from .writing import deleted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import EndpointRequest, Services

    from .door import Door
    from .log import Place

PATH = "/dragoman/v1/sessions/{id}"

_NUMBER = re.compile(r"[0-9]{1,9}")


class Access:
    """The endpoints.  Each sees the sessions of its caller, and no others."""

    def __init__(self, services: Services, door: Door) -> None:
        self._store = services.store
        self._secret = services.secret
        self._door = door

    def endpoints(self) -> Sequence[Endpoint]:
        return [
            Endpoint("GET", PATH, self._show),
            Endpoint("DELETE", PATH, self._forget),
            Endpoint("DELETE", PATH + "/messages/{number}", self._forget_message),
        ]

    async def _show(self, request: EndpointRequest) -> EndpointResponse:
        session = Session.read(await self._store.get(self._place(request).text) or b"")
        if session.cover is None:
            raise _not_found()
        return EndpointResponse(exported(request.path["id"], session))

    async def _forget(self, request: EndpointRequest) -> EndpointResponse:
        where = self._place(request)
        await self._store.delete(where.lease)  # what is under way will not be written
        if not await self._store.delete(where.text):
            raise _not_found()
        return EndpointResponse({"id": request.path["id"], "deleted": True})

    async def _forget_message(self, request: EndpointRequest) -> EndpointResponse:
        where, number = self._place(request), request.path["number"]
        token = secrets.token_hex(8)
        try:
            text = await self._door.enter(where, token)
            session = Session.read(text)
            numbers = belonging(session, int(number)) if _NUMBER.fullmatch(number) else []
            is_done = bool(numbers) and await self._door.leave(
                where, token, deleted(session, text, numbers)
            )
        finally:
            await self._door.release(where, token)
        if not numbers:
            raise NotFound("There is no such message.", code="message_not_found")
        if not is_done:
            raise Conflict("The session has changed meanwhile.", code="session_busy")
        return EndpointResponse({"id": request.path["id"], "deleted_messages": numbers})

    def _place(self, request: EndpointRequest) -> Place:
        return place(self._secret, request.caller, checked(request.path["id"], "id"))


def _not_found() -> NotFound:
    return NotFound("There is no such session.", code="session_not_found")
