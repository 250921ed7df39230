"""A request on its way through the configured chain, up to where it would be sent."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING

from multidict import CIMultiDict, CIMultiDictProxy

from proxy import access, headers
from proxy.answer import LocalEvents
from proxy.callers import ANONYMOUS
from proxy.edge import CHAT
from proxy.errors import APIError, ConfigError, KeysUnavailable, Unauthorized
from proxy.exchange import Exchange
from proxy.response import FullResponse, StreamResponse
from proxy.wire import ChatRequest, Received

from .account import Account, Explanation, Failure, account
from .house import House
from .witness import chain
from .words import spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.callers import Callers
    from proxy.config import Configuration
    from proxy.exchange import Caller
    from proxy.response import ChatResponse

    from .witness import Step


async def explain(
    configuration: Configuration, data: bytes, fields: Sequence[tuple[str, str]]
) -> Explanation:
    """Run the chain on a body and header fields.  ConfigError if a plugin cannot start."""
    async with House(configuration) as house:
        given = CIMultiDictProxy(CIMultiDict(fields))
        caller = _caller(house.callers, given, keys_exist=configuration.settings.has_keys)
        request = _request(caller, data, fields)
        answer, error = await _outcome(house, request)
        sent = request.exchange.sent
        return Explanation(
            model=request.model,
            received=await house.prompt(request),
            accounts=[await _account(house, step) for step in house.steps],
            sent=None if sent is None else await house.prompt(sent),
            answer=answer,
            failure=Failure.of(error),
            source=request.exchange.source,
        )


async def _outcome(house: House, request: ChatRequest) -> tuple[str | None, APIError | None]:
    """What a plugin answers, or why there is an error.  Shadows have ended, too."""
    exchange, answer, error = request.exchange, None, None
    try:
        access.check(request.caller, request.received.body)
        response = await chain(house.steps, house.meter.local)(request)
        answer = None if exchange.sent else await _text(response)
        await response.close()
    except APIError as refusal:
        error = refusal
    if exchange.rehearsals:
        await asyncio.wait(exchange.rehearsals)
    return answer, error


async def _account(house: House, step: Step) -> Account:
    answer = step.response if step.effect == "respond" else None
    return account(
        step,
        before=None if step.arrived is None else await house.prompt(step.arrived),
        after=None if step.made is None else await house.prompt(step.made),
        answer=None if answer is None else await _text(answer),
    )


async def _text(response: ChatResponse) -> str:
    """What an answer says, in its first choice.  A local one can be read again."""
    if isinstance(response, FullResponse):
        choices = response.body.get("choices")
        return spoken(choices[0].get("message") or {}) if choices else ""
    assert isinstance(response, StreamResponse)
    events = response.events
    if isinstance(events, LocalEvents):
        events = LocalEvents(events.chunks)
    again = StreamResponse(response.exchange, events, transforms=response.transforms)
    async with aclosing(again.chunks) as chunks:
        return "".join([chunk.texts().get(0, "") async for chunk in chunks])


# ---- the request


def _request(caller: Caller, data: bytes, fields: Sequence[tuple[str, str]]) -> ChatRequest:
    """The value that the edge would make of it."""
    kept, options = headers.for_upstream(fields)
    exchange = Exchange(f"req_{random.getrandbits(128):032x}", "POST", CHAT, CHAT, is_chat=True)
    exchange.caller = caller
    exchange.session = options.get("session")
    request = ChatRequest(
        id=exchange.id,
        caller=caller,
        session=exchange.session,
        options=options,
        deadline=None,
        received=Received(data, kept),
        exchange=exchange,
    )
    exchange.model = request.model or None
    exchange.stream = request.stream
    return request


def _caller(callers: Callers, given: CIMultiDictProxy[str], *, keys_exist: bool) -> Caller:
    """Who asks; nobody, where no key is given.  ConfigError for a key that is none of ours."""
    if keys_exist and "authorization" not in given and "api-key" not in given:
        return ANONYMOUS
    try:
        return callers.identify(given)
    except (KeysUnavailable, Unauthorized) as error:
        raise ConfigError([f"-H: {error.message}"]) from None
