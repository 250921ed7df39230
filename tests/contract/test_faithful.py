"""What no plugin changed reaches the other side as it came: as on a connection without a proxy.

Every example is sent twice, to the upstream and through the proxy, and compared at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.anything import (
    Reply,
    any_bodies,
    chat_bodies,
    cut,
    cuts,
    replies,
    request_fields,
    response_fields,
    streams,
    targets,
)
from tests.support.upstream import head
from tests.support.wire import chunked, connected, request_head

if TYPE_CHECKING:
    from tests.support.anything import Fields
    from tests.support.proxy import RunningProxy
    from tests.support.upstream import Call, RawUpstream
    from tests.support.wire import Answer

CHAT = "/v1/chat/completions"

# About one connection, and about how a body is cut up on it.
ONE_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}

PLUGINS = """
from proxy.plugin import Plugin

class Pass(Plugin):
    async def handle(self, request, call_next):
        return await call_next(request)

class Look(Plugin):
    async def handle(self, request, call_next):
        repr((request.body, request.messages, request.model))
        response = await call_next(request.replace())
        repr(getattr(response, "body", None))
        return response

class Copy(Plugin):
    async def handle(self, request, call_next):
        async def same(chunks):
            async for chunk in chunks:
                repr((chunk.body, chunk.texts()))
                yield chunk
        response = await call_next(request)
        return response.map_chunks(same) if hasattr(response, "map_chunks") else response
"""
ONE = '[[plugins]]\nuse = "./pass.py:{}"\n'
CHAINS = {
    "no plugins": "",
    "one that passes": ONE.format("Pass"),
    "one that looks": ONE.format("Look"),
    "one that copies": ONE.format("Copy"),
    "all of them": "".join(map(ONE.format, ("Copy", "Look", "Pass"))),
}


def examples(count: int) -> Any:
    """All examples of a test share its proxy and its upstream."""
    return settings(
        report_multiple_bugs=False,
        max_examples=count,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@dataclass
class Wire:
    """An upstream that gives one reply to everybody, and a proxy in front of it."""

    upstream: RawUpstream
    proxy: RunningProxy
    reply: Reply = field(default_factory=lambda: Reply(200, "OK", (), b"{}", "length", ()))

    async def compare(self, method: str, segments: list[bytes], reply: Reply) -> None:
        self.reply = reply
        self.upstream.calls.clear()
        direct = await self._send(self.upstream.url, method, segments)
        through = await self._send(self.proxy.base_url, method, segments)
        ours, theirs = reversed(self.upstream.calls)
        assert received(ours) == received(theirs)
        added = {"x-request-id"} if direct.header("x-request-id") is None else set()
        assert seen(through, added) == seen(direct)

    async def _send(self, url: str, method: str, segments: list[bytes]) -> Answer:
        async with connected(url) as client:
            await client.send(*segments)
            return await client.answer(method)

    async def replay(self, call: Call) -> None:
        reply = self.reply
        silent = call.method == "HEAD" or reply.status in (204, 304)
        pieces = cut(reply.body, reply.cuts)
        fields = list(reply.fields)
        if reply.framing == "length":
            fields.append(("Content-Length", str(len(reply.body))))
        elif reply.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
            pieces = cut(chunked(pieces), reply.cuts)
        else:
            fields.append(("Connection", "close"))
        await call.send(head(f"{reply.status} {reply.reason}", *fields))
        if not silent:
            await call.send(*pieces)
        if reply.framing == "close":
            call.writer.close()


def received(call: Call) -> tuple[object, ...]:
    """What the upstream is told."""
    fields = [(name.lower(), value) for name, value in call.headers]
    return call.method, call.target, [f for f in fields if f[0] not in ONE_HOP], call.body


def seen(answer: Answer, added: set[str] = frozenset()) -> tuple[object, ...]:  # type: ignore[assignment]
    """What the client is told."""
    fields = [(name.lower(), value) for name, value in answer.headers]
    kept = [
        (name, value)
        for name, value in fields
        if name not in ONE_HOP | added and not name.startswith("x-dragoman-")
    ]
    return answer.status, answer.reason, kept, answer.body, answer.complete


@pytest.fixture
async def wire(proxy, upstream, tmp_path, request):
    """A test's proxy and upstream; its parameter is more of a configuration."""
    (tmp_path / "pass.py").write_text(PLUGINS)
    up = await upstream()
    toml = "telemetry.turn_log = false\n" + getattr(request, "param", "")
    both = Wire(up, await proxy(up.url, toml))
    up.script = both.replay
    return both


def with_chains(toml: str, *names: str) -> Any:
    chosen = names or tuple(CHAINS)
    return pytest.mark.parametrize(
        "wire", [toml + CHAINS[name] for name in chosen], ids=chosen, indirect=True
    )


@st.composite
def posts(draw, bodies, target=CHAT, without=frozenset()) -> list[bytes]:
    """A POST as TCP segments, its body with a length or in chunks."""
    fields = [f for f in draw(request_fields()) if f[0].lower() not in without]
    return draw(segments("POST", st.just(target), st.just(tuple(fields)), bodies))


@st.composite
def segments(draw, method: str, target, fields, bodies) -> list[bytes]:
    body = draw(bodies)
    sent: Fields = (("Host", "proxy.test"), *draw(fields))
    if body is None:
        data = request_head(method, draw(target), sent)
    elif draw(st.booleans()):
        length = ("Content-Length", str(len(body)))
        data = request_head(method, draw(target), (*sent, length)) + body
    else:
        sent = (*sent, ("Transfer-Encoding", "chunked"))
        data = request_head(method, draw(target), sent) + chunked(cut(body, draw(cuts())))
    start = data.index(b"\r\n\r\n")
    return [data[:start], *cut(data[start:], draw(cuts()))]


FRAMED = ("length", "chunked")


@with_chains("", "no plugins")
@examples(150)
@given(request=posts(any_bodies()), reply=replies(FRAMED))
async def test_any_body_passes_an_empty_chain(wire, request, reply):
    await wire.compare("POST", request, reply)


# Where a plugin may look at the answer, the client's codings go on only as far as we can read them.
@with_chains("", "one that passes", "one that looks", "one that copies", "all of them")
@examples(40)
@given(request=posts(chat_bodies(), without={"accept-encoding"}), reply=replies(FRAMED))
async def test_a_chat_passes_plugins_that_pass(wire, request, reply):
    await wire.compare("POST", request, reply)


@st.composite
def streaming(draw) -> Reply:
    fields = (*draw(response_fields()), ("Content-Type", "text/event-stream; charset=utf-8"))
    framing = draw(st.sampled_from(FRAMED))
    return Reply(200, "OK", fields, draw(streams()), framing, draw(cuts()))


@with_chains('upstream.stream_usage = "count"\n')
@examples(50)
@given(request=posts(chat_bodies(stream="true"), without={"accept-encoding"}), reply=streaming())
async def test_a_stream_passes_event_by_event(wire, request, reply):
    await wire.compare("POST", request, reply)


def asks_for_usage(body: bytes) -> bytes:
    return body.replace(b'"stream"', b'"stream_options":{"include_usage" :true },"stream"', 1)


ASKING = chat_bodies(stream="true", without=('"stream_options"', '"tools"', '"metadata"'))


@with_chains("", "no plugins", "all of them")
@examples(40)
@given(request=posts(ASKING.map(asks_for_usage), without={"accept-encoding"}), reply=streaming())
async def test_a_stream_whose_client_asks_for_usage_is_not_touched(wire, request, reply):
    await wire.compare("POST", request, reply)


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "QUERY")


@st.composite
def others(draw) -> tuple[str, list[bytes]]:
    """Any method on any path; every chat's own path and method are another test's."""
    method = draw(st.sampled_from(METHODS))
    bodies = any_bodies() | st.binary(min_size=90_000, max_size=90_000) | st.none()
    return method, draw(segments(method, targets(), request_fields(), bodies))


@examples(150)
@given(request=others(), reply=replies())
async def test_every_other_path_passes(wire, request, reply):
    await wire.compare(*request, reply)


@examples(40)
@given(target=targets(), reply=streaming())
async def test_a_stream_of_another_path_passes(wire, target, reply):
    segment = request_head("POST", target, [("Host", "proxy.test"), ("Content-Length", "0")])
    await wire.compare("POST", [segment], reply)
