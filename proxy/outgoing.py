"""A request to the upstream, through the client library's pool and its parser.

ClientSession.request() does much for each request that a proxy has no use for: it merges headers,
adds some of its own, keeps cookies, follows redirects, and writes each body in a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import hdrs
from aiohttp.helpers import TimerNoop
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from yarl import URL

NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that a client may have left out, and that stay out."""

SHORT = 1 << 15
"""A body that is not longer fits a socket's buffer."""

LONGEST_LINE = 1 << 16
"""Bytes of one line of an answer's head."""

_NO_TIMER = TimerNoop()


class Outgoing(aiohttp.ClientRequest):
    """A request with the headers it was given; a short body leaves in one write with them."""

    _skip_auto_headers = CIMultiDict((name, None) for name in NOT_ADDED)
    _short: bytes | None = None

    def update_headers(self, headers: Any) -> None:
        self.headers = CIMultiDict(((hdrs.HOST, self.url.host_port_subcomponent or ""),))
        self.headers.extend(headers)

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """There are none."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        if isinstance(body, bytes) and len(body) <= SHORT and self.proxy is None:
            self._short = body
            self.headers[hdrs.CONTENT_LENGTH] = str(len(body))
        else:
            super().update_body_from_data(body, _stacklevel)

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if self._short is None or protocol is None:
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        try:
            await writer.write(self._short, drain=False)
        except ConnectionError as error:
            raise aiohttp.ClientOSError(*error.args) from error
        protocol.start_timeout()
        return self.response_class(
            self.method,
            self.url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    *,
    headers: Mapping[str, str],
    body: Any,
    proxy: URL | None,
) -> aiohttp.ClientResponse:
    """Send a request and wait for the head of its answer, as ClientSession.request() would."""
    connector, timeout = session.connector, session.timeout
    assert connector is not None
    request = Outgoing(
        method,
        url,
        headers=headers,
        data=body,
        loop=asyncio.get_running_loop(),
        timer=_NO_TIMER,
        session=session,
        proxy=proxy,
        proxy_headers=None if proxy is None else CIMultiDict(),
    )
    try:
        connection = await connector.connect(request, [], timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError("the connection took too long") from error
    protocol = connection.protocol
    assert protocol is not None
    try:
        protocol.set_response_params(
            timer=_NO_TIMER,
            skip_payload=method == hdrs.METH_HEAD,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=timeout.sock_read,
            read_bufsize=1 << 16,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        response = await request.send(connection)
        try:
            return await response.start(connection)
        except BaseException:
            response.close()
            raise
    except BaseException:
        connection.close()
        raise
