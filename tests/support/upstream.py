"""An upstream that says exactly the bytes a test wants, when it wants."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    Script: TypeAlias = Callable[["Call"], Awaitable[None]]


@dataclass
class Call:
    """One request as it came over the wire, and the means to answer it."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    unread: int | None = 0
    """Bytes of the body that are still to come; None for as many chunks as there are."""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """The request target, as it stands in the request line."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.split(b"\r\n")[1:]
        pairs = (line.decode("utf-8", "surrogateescape").partition(":") for line in lines if line)
        return [(name, value.strip()) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    async def part(self) -> bytes:
        """The next bytes of a body that was not read whole; b"" at its end."""
        if self.unread is None:
            size = int(await self.reader.readuntil(b"\n"), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readline()
            if not size:
                self.unread = 0
            return data
        if not self.unread:
            return b""
        data = await self.reader.read(min(self.unread, 65_536))
        if not data:
            raise asyncio.IncompleteReadError(b"", self.unread)
        self.unread -= len(data)
        return data

    async def send(self, *segments: bytes) -> None:
        """Send each segment by itself: the other side may read them one by one."""
        for segment in segments:
            self.writer.write(segment)
            await self.writer.drain()
            if len(segments) > 1:
                await asyncio.sleep(0)

    async def answer(
        self,
        body: bytes = b"{}",
        *,
        status: str = "200 OK",
        content_type: str = "application/json",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """An ordinary answer with a Content-Length."""
        fields = (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers)
        await self.send(head(status, *fields) + body)

    async def chat(self, text: str = "Hello.", usage: tuple[int, int] = (9, 3)) -> None:
        """A chat completion, in the form that the request asks for."""
        if self.json.get("stream"):
            await self.start_stream()
            for event in chunks(text, self.json, usage):
                await self.chunk(event)
            await self.end_chunks()
        else:
            await self.answer(completion(text, usage))

    async def start_stream(self, *headers: tuple[str, str]) -> None:
        await self.send(
            head(
                "200 OK",
                ("Content-Type", "text/event-stream; charset=utf-8"),
                ("Transfer-Encoding", "chunked"),
                *headers,
            )
        )

    async def chunk(self, data: bytes) -> None:
        """One chunk of HTTP's chunked coding."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_closed(self, seconds: float = 5) -> None:
        """Wait until the other side has closed this connection; TimeoutError if it does not."""
        async with asyncio.timeout(seconds):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        """Close with a RST, as a crashed host does."""
        handle = socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno()))
        with handle:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def head(status: str, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def completion(text: str, usage: tuple[int, int] | None = (9, 3)) -> bytes:
    body = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "system_fingerprint": "fp_test",
    }
    if usage is not None:
        body["usage"] = _usage(usage)
    return msgspec.json.encode(body)


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    prompt, output = usage
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def chunks(text: str, request: dict[str, Any], usage: tuple[int, int] = (9, 3)) -> list[bytes]:
    """The events of a streamed completion, as OpenAI sends them: a word in each."""
    frame = {
        "id": "chatcmpl-test",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "system_fingerprint": "fp_test",
    }
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    null = {"usage": None} if asked else {}
    words = text.split(" ")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
    events = [
        {
            **frame,
            "choices": [{"index": 0, "delta": d, "logprobs": None, "finish_reason": None}],
            **null,
        }
        for d in deltas
    ]
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    events.append({**frame, "choices": [last], **null})
    if asked:
        events.append({**frame, "choices": [], "usage": _usage(usage)})
    return [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events] + [
        b"data: [DONE]\n\n"
    ]


class RawUpstream:
    """Listens on a real socket and lets a script answer each request.

    `calls` are the requests that came, newest last.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.connections = 0
        self.whole_bodies = True
        """Read a request's body before the script runs; else the script may, by `Call.part()`."""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                call = Call(head[:-4], b"", reader, writer)
                call.unread = _body_length(call)
                if self.whole_bodies:
                    parts = []
                    while data := await call.part():
                        parts.append(data)
                    call.body = b"".join(parts)
                self.calls.append(call)
                await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            with suppress(Exception):
                writer.close()


def _body_length(call: Call) -> int | None:
    if "chunked" in (call.header("transfer-encoding") or ""):
        return None
    return int(call.header("content-length") or 0)


async def chat(call: Call) -> None:
    """The script of an upstream that works."""
    await call.chat()
