"""What a plugin changes is changed; every other byte of the same request or answer stays."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.anything import chat_bodies
from tests.support.upstream import completion
from tests.support.wire import chunked, fetch

CHAT = "/v1/chat/completions"
ASK = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
PLUGINS = """
from proxy.plugin import Plugin

class Ask(Plugin):
    async def handle(self, request, call_next):
        return await call_next(request.replace(messages=[{"role": "user", "content": "é"}]))

class Drop(Plugin):
    async def handle(self, request, call_next):
        return await call_next(request.without("messages"))

class Shout(Plugin):
    async def handle(self, request, call_next):
        return (await call_next(request)).map_text(str.upper)
"""


@pytest.fixture
def changed_by(plain, upstream, tmp_path):
    """Start an upstream and a proxy with this plugin of the above."""
    (tmp_path / "change.py").write_text(PLUGINS)

    async def start(name, script=None):
        up = await upstream(script) if script else await upstream(lambda call: call.answer())
        table = f'telemetry.turn_log = false\n[[plugins]]\nuse = "./change.py:{name}"\n'
        return up, await plain(up.url, table)

    return start


@pytest.fixture
async def asking(changed_by):
    return await changed_by("Ask")


OTHERS = chat_bodies(without=('"messages"',))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(others=OTHERS)
async def test_other_fields_keep_their_bytes_where_messages_are_changed(asking, others):
    up, running = asking
    start, _, rest = others.partition(b"{")
    comma = b"" if rest.strip() == b"}" else b","
    body = start + b'{ "messages" : [{"role":"user", "content":"a"}] ' + comma + rest
    await fetch(running.base_url, "POST", CHAT, body=body)
    sent = start + b'{ "messages" : [{"role":"user","content":"\xc3\xa9"}] ' + comma + rest
    assert up.calls.pop().body == sent


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"messages":[],"seed" : 1.0}', b'{"seed" : 1.0}'),
        (b'{ "a":1 ,"messages":[ ], "b":null }', b'{ "a":1 , "b":null }'),
        (b'{"b":12345678901234567890,"messages":[]}', b'{"b":12345678901234567890}'),
        (b'{"messages":[]}', b"{}"),
        (b'{"model":"m"}', b'{"model":"m"}'),
    ],
)
async def test_a_field_that_is_taken_out_takes_nothing_with_it(changed_by, body, sent):
    up, running = await changed_by("Drop")
    await fetch(running.base_url, "POST", CHAT, body=body)
    assert up.calls[0].body == sent


async def test_a_changed_event_keeps_its_other_lines_and_others_all_of_theirs(changed_by):
    before = [
        b': x\n\nevent: x\nid: 7\nretry: 9\ndata: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: { "choices" : [ {"delta": {"role": "assistant"}} ], "x": 1.0 }\n\n',
        b'id: 8\r\ndata: {"choices":[{"delta":{"content":"\xc3\xa9"}}],"vendor":[]}\r\n\r\n',
        b'data: {"error":{"message":"no"}}\n\n: bye\n\ndata: [DONE]\n\ndata: late\n\n',
    ]
    after = [before[0].replace(b'"a"', b'"A"'), before[1], before[2].upper(), before[3]]
    after[2] = before[2].replace(b"\xc3\xa9", b"\xc3\x89")

    async def stream(call):
        await call.start_stream()
        await call.send(chunked(before))

    _, running = await changed_by("Shout", stream)
    answer = await fetch(running.base_url, "POST", CHAT, body=ASK)
    assert (answer.body, answer.complete) == (b"".join(after), True)


@pytest.mark.parametrize("coding", ["gzip", None])
async def test_a_changed_answer_has_headers_that_fit_it(changed_by, coding):
    data = completion("Hello.")
    headers = [("x-request-id", "theirs"), ("ETag", "of-the-old-body")]
    if coding:
        data = gzip.compress(data)
        headers.append(("Content-Encoding", coding))
    _, running = await changed_by("Shout", lambda call: call.answer(data, headers=(*headers,)))
    answer = await fetch(running.base_url, "POST", CHAT, ("Accept-Encoding", "gzip"), body=b"{}")
    assert answer.json["choices"][0]["message"]["content"] == "HELLO."
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("content-encoding") is None
    assert answer.header("etag") is None
    assert answer.header("x-request-id") == "theirs"


async def test_an_answer_that_is_an_error_is_not_changed(changed_by):
    error = msgspec.json.encode({"error": {"message": "quiet"}})
    _, running = await changed_by("Shout", lambda call: call.answer(error, status="429 Slow"))
    answer = await fetch(running.base_url, "POST", CHAT, body=b"{}")
    assert (answer.status, answer.body) == (429, error)
