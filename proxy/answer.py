"""Answers that a plugin makes itself, and checks that run beside the upstream call."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from multidict import CIMultiDict

from . import sse, tasks
from .response import ChatResponse, FullResponse, StreamResponse, Uncounted

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from .usage import Usage
    from .wire import ChatRequest

T = TypeVar("T")


def answer(request: ChatRequest, text: str, *, finish_reason: str = "stop") -> ChatResponse:
    """A locally made completion in the form the client asked for.

    Its usage is counted, exactly, when the plugin has returned it.
    """
    frame: dict[str, Any] = {
        "id": f"chatcmpl-{request.id}",
        "object": "chat.completion.chunk" if request.stream else "chat.completion",
        "created": time.time_ns() // 1_000_000_000,
        "model": request.model,
    }
    if request.stream:
        return _stream(request, frame, text, finish_reason)
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return _full(request, {**frame, "choices": [choice]}, text, finish_reason)


def _full(
    request: ChatRequest, body: dict[str, Any], text: str, finish_reason: str
) -> FullResponse:
    headers = CIMultiDict({"Content-Type": "application/json"})
    response = FullResponse(request.exchange, msgspec.json.encode(body), headers=headers)

    def fill(usage: Usage) -> None:
        response.data = msgspec.json.encode({**body, "usage": usage.body()})

    response.uncounted = Uncounted(request, text, finish_reason, fill)
    return response


def _stream(
    request: ChatRequest, frame: dict[str, Any], text: str, finish_reason: str
) -> StreamResponse:
    options = request.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    if asked:
        frame["usage"] = None
    steps: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": text}, None),
        ({}, finish_reason),
    ]
    chunks = [
        {**frame, "choices": [{"index": 0, "delta": d, "logprobs": None, "finish_reason": reason}]}
        for d, reason in steps
    ]
    events = LocalEvents(chunks)
    headers = CIMultiDict({"Content-Type": "text/event-stream; charset=utf-8"})
    response = StreamResponse(request.exchange, events, headers=headers)

    def fill(usage: Usage) -> None:
        if asked:
            events.chunks.append({**frame, "choices": [], "usage": usage.body()})

    response.uncounted = Uncounted(request, text, finish_reason, fill)
    return response


class LocalEvents:
    """A stream whose chunks are known; `[DONE]` ends it."""

    def __init__(self, chunks: Iterable[dict[str, Any]]) -> None:
        self.chunks = list(chunks)
        self._sent = False

    async def read(self) -> bytes:
        if self._sent:
            return b""
        self._sent = True
        events = b"".join(sse.encode(msgspec.json.encode(chunk)) for chunk in self.chunks)
        return events + sse.encode(b"[DONE]")

    async def close(self) -> None:
        self._sent = True


async def alongside(check: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T:
    """Run a check beside some work.  If the check raises, cancel the work and raise its error.

    The result of the work is handed out only after the check has passed; a response that had
    already begun is closed.  The check needs a time limit of its own: a plugin's clock stands
    still while `call_next` runs.
    """
    checking = tasks.start(check, name="check")
    working = tasks.start(work, name="work beside a check")
    try:
        await checking
        return await working
    except BaseException:
        checking.cancel()
        working.cancel()
        await asyncio.wait((checking, working))
        if not working.cancelled() and working.exception() is None:
            result = working.result()
            if isinstance(result, ChatResponse):
                await result.close()
        raise
