"""A client that sends exactly the bytes a test wants, and reads answers as strictly as HTTP says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from . import upstream

if TYPE_CHECKING:
    from proxy.demo import running as embedded

    from .proxy import RunningProxy

CHAT = "/v1/chat/completions"


def chat_body(text: str = "Hi", **fields: Any) -> bytes:
    """The body of a chat completion with one user message, and these fields besides or instead."""
    messages = [{"role": "user", "content": text}]
    return msgspec.json.encode({"model": "gpt-4o-mini", "messages": messages, **fields})


def stop_reading(writer: asyncio.StreamWriter) -> None:
    """Let the kernel's buffers fill, as a client does that is busy."""
    cast("asyncio.Transport", writer.transport).pause_reading()


def request(
    body: bytes | None = None, *headers: tuple[str, str], method: str = "POST", target: str = CHAT
) -> bytes:
    """A request with a Content-Length, if it has a body."""
    fields = [("Host", "test"), *headers]
    if body is not None:
        fields += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (body or b"")


@dataclass
class Answer:
    """An answer as it came.  `broken` says why it ended before HTTP's own end, if it did."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    broken: str = ""

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> Any:
        """The code of an error in OpenAI's shape, checked to be one."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return error["code"]

    @property
    def events(self) -> list[bytes]:
        """The payloads of a stream; every event is whole."""
        *events, rest = self.body.split(b"\n\n")
        assert rest == b"", f"half an event: {rest!r}"
        return [event.removeprefix(b"data: ") for event in events]

    @property
    def event_code(self) -> Any:
        """The code of the error event that ends a stream, checked to be one."""
        return Answer(0, [], self.events[-1]).code


class Client:
    """One raw connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def leave(self) -> None:
        """Go away, as a client does whose user pressed stop."""
        self.writer.close()

    def reset(self) -> None:
        """Go away with a RST, as a client does that crashed."""
        self.writer.transport.abort()

    async def head(self, seconds: float = 10) -> Answer:
        """The head of an answer."""
        async with asyncio.timeout(seconds):
            lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        pairs = (line.decode("utf-8", "surrogateescape").partition(":") for line in lines[1:])
        status = int(lines[0].split(b" ", 2)[1])
        return Answer(status, [(name, value.strip()) for name, _, value in pairs])

    async def answer(self, seconds: float = 10) -> Answer:
        """A whole answer, or what came of it before it broke."""
        answer = await self.head(seconds)
        try:
            async with asyncio.timeout(seconds):
                async for part in self._parts(answer):
                    answer.body += part
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            answer.broken = type(error).__name__
            answer.body += getattr(error, "partial", b"")
        return answer

    async def _parts(self, answer: Answer) -> Any:
        length = answer.header("content-length")
        if answer.status in (204, 304):
            return
        if length is not None:
            yield await self.reader.readexactly(int(length))
        elif answer.header("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                yield await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            await self.reader.readuntil(b"\r\n")
        else:
            while part := await self.reader.read(65_536):
                yield part

    async def rest(self, seconds: float = 10) -> bytes:
        """Everything until the other side closes; TimeoutError if it does not."""
        data = b""
        async with asyncio.timeout(seconds):
            try:
                while part := await self.reader.read(65_536):
                    data += part
            except ConnectionError:
                pass
        return data


async def ask(running: RunningProxy, data: bytes, seconds: float = 10) -> Answer:
    """The answer to a request on a connection of its own."""
    async with await Client.open(running.server.port) as client:
        await client.send(data)
        return await client.answer(seconds)


async def ask_chat(running: RunningProxy, text: str = "Hi", **fields: Any) -> Answer:
    """The answer to a chat completion."""
    return await ask(running, request(chat_body(text, **fields)))


async def admin(running: RunningProxy | embedded.RunningProxy, path: str) -> Answer:
    """What the admin listener says."""
    async with await Client.open(running.server.admin_port) as client:
        await client.send(request(method="GET", target=path))
        return await client.answer()


async def metric(running: RunningProxy | embedded.RunningProxy, name: str) -> float:
    """The sum of a metric over all its labels."""
    lines = (await admin(running, "/metrics")).body.decode().splitlines()
    found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in found)


STREAM_HEAD = upstream.head("200 OK", ("Content-Type", "text/event-stream"))
CHUNKED_HEAD = upstream.head(
    "200 OK", ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")
)


async def refused(port: int) -> bool:
    """Does nobody listen there any more?"""
    try:
        async with await Client.open(port):
            return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the backlog
        return False
