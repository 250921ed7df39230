"""Requests as the edge makes them, for tests of what comes behind it."""

from __future__ import annotations

from typing import Any

import msgspec
from multidict import CIMultiDict

from proxy.exchange import Caller, Exchange
from proxy.wire import ChatRequest, Received

CHAT = "/v1/chat/completions"


def chat_request(
    *,
    text: str = "Hi",
    caller: str | None = None,
    options: dict[str, str] | None = None,
    **fields: Any,
) -> ChatRequest:
    """A request with one user message, and these fields besides or instead."""
    messages = [{"role": "user", "content": text}]
    body = {"model": "gpt-4o-mini", "messages": messages, **fields}
    exchange = Exchange("req_test", "POST", CHAT, CHAT, is_chat=True)
    exchange.caller = Caller(caller or "anonymous", caller)
    return ChatRequest(
        id=exchange.id,
        caller=exchange.caller,
        session=None,
        options=options or {},
        deadline=None,
        received=Received(msgspec.json.encode(body), CIMultiDict()),
        exchange=exchange,
    )
