"""The plugin: supplies what a session holds, and has what came of a request written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

from proxy.plugin import Conflict, InvalidRequest, Plugin, StoreUnavailable, answer, note

from .access import Access
from .commands import Commands
from .door import Door
from .log import Edit
from .naming import Wish, place
from .options import SessionsOptions
from .pairing import Unpaired
from .reconcile import reconcile
from .records import Session
from .visit import Visit
from .writing import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Endpoint, Services

    from .commands import Command
    from .messages import Message
    from .reconcile import Plan
    from .records import Said


class Sessions(Plugin[SessionsOptions]):
    """Remembers conversations: a client may send only what is new, or all of it."""

    Config = SessionsOptions
    on_error = "open"
    timeout = 0.0  # waiting has a limit of its own, and so has the store

    def __init__(self, config: SessionsOptions, services: Services) -> None:
        super().__init__(config, services)
        self._door = Door(services, config)
        self._access = Access(services, self._door)
        self._commands: Commands | None = None
        counter = services.metrics.counter
        self._requests = counter(
            "session_requests", "Requests that name a session, by what was made of it.", ["history"]
        )
        self._turns = counter(
            "session_turns", "Answers in sessions, by what became of their turns.", ["outcome"]
        )

    async def start(self) -> None:
        if self.config.commands:
            self._commands = await asyncio.to_thread(Commands)
        if not self.services.store.is_shared:
            self.services.log.warning("sessions are in this process's memory, and end with it")

    def inherit(self, before: Self) -> None:
        self._door.inherit(before._door)

    async def stop(self) -> None:
        self._door.close()

    def endpoints(self) -> Sequence[Endpoint]:
        return self._access.endpoints()

    @classmethod
    def summary(cls, config: SessionsOptions) -> str:
        return f"kept for {config.ttl / 3_600:g} h, {config.concurrent} for one another"

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        wish, incoming = Wish.of(request), request.messages
        if wish is None or not all(isinstance(message, Mapping) for message in incoming):
            return await call_next(request)
        request.exchange.session = wish.session
        where = place(self.services.secret, request.caller, wish.session)
        visit = Visit(self._door, where, request, self._count_turn)
        request.on_finish(visit.finished)  # also without an answer
        try:
            session = whole = Session.read(await self._door.enter(where, visit.token))
        except Conflict:
            visit.is_out = True
            self._requests.labels("busy").inc()
            raise
        except StoreUnavailable:
            return await self._without(request, call_next)
        if wish.retracts:
            session = session.without_last_turn()
        said = session.said(incomplete=self.config.incomplete == "keep")
        plan = _plan(said, session, incoming, wish)
        if self._commands and (command := self._commands.find(plan.fresh)) is not None:
            return await self._obey(command, request, visit, session)
        visit.write = partial(written, session, said, plan, options=self.config)
        request.on_shown(visit.heard)
        passed = request
        if plan.messages is not incoming:
            passed = request.replace(messages=plan.messages)
        response = await call_next(passed)
        self._tell(response, plan, incoming, whole, session)
        return response

    async def _without(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """Serve it as if there were no sessions."""
        self._requests.labels("unavailable").inc()
        note(sessions_degraded=True)
        response = await call_next(request)
        others = response.headers.get("x-dragoman-degraded")
        response.headers["x-dragoman-degraded"] = f"{others}, sessions" if others else "sessions"
        return response

    def _tell(
        self,
        response: ChatResponse,
        plan: Plan,
        incoming: Sequence[Message],
        whole: Session,
        session: Session,
    ) -> None:
        self._requests.labels(plan.kind).inc()
        supplied = max(0, len(plan.messages) - len(incoming))
        retracted = len(whole.records) - len(session.records)
        forgotten = whole.cover.forgotten if whole.cover else 0
        note(sessions_history=plan.kind, sessions_supplied=supplied)
        told = f"{plan.kind};supplied={supplied}"
        if retracted:
            told += ";retracted"
        if forgotten:
            told += f";forgotten={forgotten}"
        response.headers["x-dragoman-history"] = told

    async def _obey(
        self, command: Command, request: ChatRequest, visit: Visit, session: Session
    ) -> ChatResponse:
        """Delete, and say so.  The command itself is no part of the session."""
        visit.is_out = True
        self._requests.labels("command").inc()
        left = session.without_last_turn() if command.deletes == "last" else Session.read(b"")
        stop = left.records[-1].stop if left.records else left.cover_stop
        edit = Edit(session.length, b"", 0, stop, b"")
        try:
            is_done = await self._door.leave(visit.place, visit.token, edit)
        except StoreUnavailable:
            is_done = False
            visit.is_out = False  # what holds the session is to be released
        if not is_done:
            return answer(request, command.failed)
        return answer(request, command.done if session.records else command.nothing)

    def _count_turn(self, outcome: str) -> None:
        self._turns.labels(outcome).inc()


def _plan(said: Sequence[Said], session: Session, incoming: Sequence[Message], wish: Wish) -> Plan:
    history = [each.message for each in said]
    try:
        return reconcile(history, session.system, incoming, wish.mode)
    except Unpaired:
        raise InvalidRequest(
            "A tool's result belongs to no call of this session; send the whole chat.",
            param="messages",
            code="unknown_tool_call",
        ) from None
