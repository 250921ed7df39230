"""Chains of plugins made of functions, around an upstream that is one."""

from __future__ import annotations

import asyncio

from proxy.answer import LocalEvents
from proxy.chain import build
from proxy.layer import Layer
from proxy.plugin import Plugin
from proxy.response import FullResponse, StreamResponse
from proxy.usage import Usage
from proxy.wire import Chunk

OPEN, CLOSED = "open", "closed"


class Panic(BaseException):
    """As pyo3's: no Exception."""


async def count(request, text):
    return Usage(len(request.messages), len(text))


def plugin(handle):
    """A plugin class around a handle function."""
    return type("Made", (Plugin,), {"handle": lambda self, *args: handle(*args)})(None, None)


def chain(*handles, upstream, **keys):
    layers = [Layer(plugin(h), f"p{i}", **keys) for i, h in enumerate(handles)]
    return build(layers, upstream, count)


async def echo(request):
    """An upstream that tells what it was asked."""
    return FullResponse(request.exchange, request.data(), source="upstream")


def streaming(*texts, log=None, fail=None):
    """An upstream that streams these texts; its stream notes that it was closed."""

    class Events(LocalEvents):
        async def close(self):
            if log is not None:
                log.append("closed")

        async def read(self):
            if fail is not None and not self.chunks:
                raise fail
            return await super().read()

    async def upstream(request):
        chunks = [{"choices": [{"index": 0, "delta": {"content": t}}]} for t in texts]
        return StreamResponse(request.exchange, Events(chunks), source="upstream")

    return upstream


async def text_of(response):
    """The text that a client would read off a stream."""
    out = []

    async def write(data):
        out.append(data)

    await response.send(write)
    events = b"".join(out).split(b"\n\n")
    chunks = [Chunk(event + b"\n\n") for event in events if event not in (b"", b"data: [DONE]")]
    return "".join(c.texts().get(0, "") for c in chunks)


async def raises(request, call_next):
    raise ZeroDivisionError


async def hangs(request, call_next):
    await asyncio.sleep(60)
