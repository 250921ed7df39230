"""A client that says any bytes, segment by segment, and tells exactly what came back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SECONDS = 10
"""How long a test waits for what must come."""


class Broken(Exception):
    """The connection ended in the middle of an answer."""


@dataclass
class Answer:
    """An answer as it came over the wire."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False
    """Did it end as HTTP says, and not with a broken connection?"""
    interim: list[int] = field(default_factory=list)
    """The 1xx that came before it."""

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class WireClient:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left: int | None = None
        """Bytes of the body that are still to come; None if they are chunked or end with EOF."""
        self._chunked = False

    async def send(self, *segments: bytes) -> None:
        """Send each segment by itself: the other side may read them one by one."""
        for segment in segments:
            self.writer.write(segment)
            await self.writer.drain()
            if len(segments) > 1:
                await asyncio.sleep(0)

    async def ask(
        self, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None
    ) -> None:
        """Send a request, with a Content-Length if it has a body."""
        fields = [("Host", "proxy.test"), *headers]
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        await self.send(request_head(method, target, fields) + (body or b""))

    async def post(self, target: str, body: bytes, *headers: tuple[str, str]) -> None:
        await self.ask("POST", target, ("Content-Type", "application/json"), *headers, body=body)

    async def head(self, method: str = "POST") -> Answer:
        """The head of the answer; its body is read with part()."""
        interim: list[int] = []
        async with asyncio.timeout(SECONDS):
            while (answer := await self._head()).status < 200 and answer.status != 101:
                interim.append(answer.status)
        answer.interim = interim
        self._chunked = "chunked" in (answer.header("transfer-encoding") or "")
        length = answer.header("content-length")
        self._left = None if length is None or self._chunked else int(length)
        if method == "HEAD" or answer.status in (204, 304):
            self._left, self._chunked = 0, False
        return answer

    async def _head(self) -> Answer:
        try:
            return _parsed(await self.reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(getattr(error, "partial", b"")) from error

    async def part(self) -> bytes:
        """The next bytes of the body, free of framing; b"" at its proper end, else Broken."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self._part()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken from error

    async def _part(self) -> bytes:
        if self._chunked:
            size = int((await self.reader.readuntil(b"\n")).partition(b";")[0], 16)
            data = await self.reader.readexactly(size)
            await self.reader.readuntil(b"\n")
            self._chunked = bool(size)
            self._left = self._left if size else 0
            return data
        if self._left == 0:
            return b""
        data = await self.reader.read(min(self._left or 65_536, 65_536))
        if self._left is not None:
            if not data:
                raise Broken
            self._left -= len(data)
        return data

    async def answer(self, method: str = "POST") -> Answer:
        """The whole answer, or what there is of it."""
        answer = await self.head(method)
        body = bytearray()
        try:
            while data := await self.part():
                body += data
            answer.complete = True
        except Broken:
            pass
        answer.body = bytes(body)
        return answer

    async def until(self, wanted: bytes) -> bytes:
        """Read the body until it holds these bytes."""
        body = b""
        while wanted not in body:
            data = await self.part()
            assert data, f"the body ended: {body!r}"
            body += data
        return body

    async def wait_closed(self) -> None:
        """Wait until the other side closes."""
        async with asyncio.timeout(SECONDS):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[WireClient]:
    """A connection to whatever listens at a URL."""
    parts = urlsplit(url)
    client = WireClient(*await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 26))
    try:
        yield client
    finally:
        client.close()


async def fetch(
    url: str, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None
) -> Answer:
    """One request on a connection of its own."""
    async with connected(url) as client:
        await client.ask(method, target, *headers, body=body)
        return await client.answer(method)


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def chunked(pieces: Iterable[bytes]) -> bytes:
    """HTTP's chunked coding of these pieces, one chunk for each."""
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"


def _parsed(data: bytes) -> Answer:
    first, *lines = data.decode("utf-8", "surrogateescape").split("\r\n")
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    pairs = (line.partition(":") for line in lines if line)
    fields = [(name, value.strip(" \t")) for name, _, value in pairs]
    return Answer(version, int(status), reason, fields)
