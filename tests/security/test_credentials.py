"""Keys: who brings none or a wrong one, who shares half of one, and where they must not turn up."""

from __future__ import annotations

import asyncio
import hashlib
import logging

import pytest

from proxy.callers import Callers, fingerprint
from tests.support.plugins import plugin, told
from tests.support.raw import CHAT, Client, admin, ask, chat_body, request
from tests.support.upstream import chunks

CLIENT_KEY = "dgm-" + "k" * 43
OURS = f"""
upstream.api_key = "sk-CANARY-upstream"
[[keys]]
name = "team"
sha256 = "{fingerprint(CLIENT_KEY)}"
"""

WRONG = {
    "nothing": (),
    "an empty one": (("Authorization", ""),),
    "only the scheme": (("Authorization", "Bearer"),),
    "a wrong one": (("Authorization", "Bearer sk-wrong"),),
    "the hash itself": (("Authorization", f"Bearer {fingerprint(CLIENT_KEY)}"),),
    "another scheme": (("Authorization", f"Basic {CLIENT_KEY}"),),
    "a prefix": (("Authorization", f"Bearer {CLIENT_KEY[:-1]}"),),
    "more than it": (("Authorization", f"Bearer {CLIENT_KEY}x"),),
    "another case": (("Authorization", f"Bearer {CLIENT_KEY.upper()}"),),
    "quotes": (("Authorization", "Bearer ' OR '1'='1"),),
    "quotes of JSON": (("Authorization", 'Bearer {"$ne": null}'),),
    "unicode": (("Authorization", "Bearer ключ-🔑"),),
    "bytes": (("Authorization", "Bearer \udcff\udcfe"),),
    "a long one": (("Authorization", "Bearer " + "x" * 60_000),),
    "the upstream's": (("Authorization", "Bearer sk-CANARY-upstream"),),
    "api-key": (("api-key", "sk-wrong"),),
    "a protocol": (("Sec-WebSocket-Protocol", "openai-insecure-api-key.sk-wrong"),),
    "another header": (("X-Api-Key", CLIENT_KEY),),
}
# The parser does not even take these for HTTP.
REFUSED = {
    "NUL": "Bearer a\0b",
    "CR": "Bearer a\rb",
    "LF": "Bearer a\nb",
    "escape": "Bearer a\x1bb",
    "a megabyte": "Bearer " + "x" * 1_000_000,
}


@pytest.mark.parametrize("target", [CHAT, "/v1/models", "/v1/realtime"])
@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_a_key_that_is_none_is_a_401_before_anything_else_happens(
    proxy, upstream, tmp_path, headers, target
):
    up = await upstream()
    running = await proxy(up.url, OURS + plugin(tmp_path, "told.append('asked')"))
    answer = await ask(running, request(b"{", *headers, target=target))
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert up.connections == 0
    assert told == []
    assert b"CANARY" not in answer.body


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
async def test_a_key_that_no_header_can_hold_is_refused(proxy, upstream, value, caplog):
    caplog.set_level(logging.DEBUG)
    up = await upstream()
    running = await proxy(up.url, OURS)
    value = value.replace("Bearer ", "Bearer sk-CANARY")
    async with await Client.open(running.server.port) as client:
        client.writer.write(request(chat_body(), ("Authorization", value)))
        answer = await client.answer()
    assert answer.status in (400, 401)
    assert up.connections == 0
    assert b"CANARY" not in answer.body
    assert "CANARY" not in caplog.text


async def test_the_right_key_passes_and_never_reaches_the_upstream(proxy, upstream):
    up = await upstream()
    running = await proxy(up.url, OURS)
    for headers in (
        (("Authorization", f"Bearer {CLIENT_KEY}"),),
        (("authorization", f"bearer  {CLIENT_KEY} "),),
        (("api-key", CLIENT_KEY),),
    ):
        assert (await ask(running, request(chat_body(), *headers))).status == 200
        assert CLIENT_KEY.encode() not in up.calls[-1].head
        assert up.calls[-1].header("Authorization") == "Bearer sk-CANARY-upstream"
    assert {turn["caller"] for turn in await running.turns(3)} == {"team"}


async def test_two_keys_are_no_key(proxy, upstream):
    """Whichever of them somebody in front of us has checked, it is not both."""
    up = await upstream()
    running = await proxy(up.url, OURS)
    fields = [("Authorization", "Bearer sk-wrong"), ("Authorization", f"Bearer {CLIENT_KEY}")]
    for headers in (fields, fields[::-1]):
        answer = await ask(running, request(chat_body(), *headers))
        assert answer.status in (200, 401)
        assert answer.status == 401 or headers[0][1].endswith(CLIENT_KEY)
    for call in up.calls:
        assert [v for n, v in call.headers if n.lower() == "authorization"] == [
            "Bearer sk-CANARY-upstream"
        ]


# ---- who is who

PREFIX = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9." * 6
assert len(PREFIX) > 200


async def test_keys_that_share_a_long_prefix_are_different_callers(proxy, upstream, tmp_path):
    toml = plugin(tmp_path, "told.append(request.caller.id)\nreturn await call_next(request)")
    running = await proxy((await upstream()).url, toml)
    for end in ("a", "b", "a"):
        await ask(running, request(chat_body(), ("Authorization", f"Bearer {PREFIX}{end}")))
    assert told[0] == told[2] != told[1]
    turns = await running.turns(3)
    assert [turn["caller"] for turn in turns] == told


def test_the_identity_of_a_caller_cannot_be_computed_from_its_key():
    key = {"Authorization": "Bearer sk-CANARY"}
    identities = {Callers((), ours_only=False).identify(key).id for _ in range(3)}  # type: ignore[arg-type]
    assert len(identities) == 3  # the secret of each process is its own
    digests = {
        hashlib.new(n, b"sk-CANARY").hexdigest() for n in ("md5", "sha1", "sha256", "blake2b")
    }
    assert not {d[:32] for d in digests} & identities


# ---- a key that must turn up nowhere

CANARY = "sk-CANARY0123456789"
TRACES = (CANARY, hashlib.sha256(CANARY.encode()).hexdigest(), "CANARY")
EVENT = chunks("one", {})[0]


async def every_ending(call):
    match call.json["messages"][-1]["content"] if call.body else "":
        case "reset":
            call.reset()
        case "garbage":
            await call.send(b"garbage sk-CANARY\r\n\r\n")
        case "break":
            await call.start_stream()
            await call.chunk(EVENT)
            call.writer.close()
        case "silence":
            await call.wait_closed(20)
        case "refuse":
            await call.answer(b'{"error": {"code": "no"}}', status="401 Unauthorized")
        case _:
            await call.answer(b"{}")


CREDENTIALS = {
    "Authorization": ("Authorization", f"Bearer {CANARY}"),
    "without a scheme": ("Authorization", CANARY),
    "api-key": ("api-key", CANARY),
    "x-api-key": ("x-api-key", CANARY),
    "Proxy-Authorization": ("Proxy-Authorization", f"Basic {CANARY}"),
    "Cookie": ("Cookie", f"session={CANARY}"),
    "a protocol": ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{CANARY}"),
    "a control character": ("Authorization", f"Bearer {CANARY}\x01"),
    "an option": ("x-dragoman-key", CANARY),
}
ENDINGS = ("Hi", "reset", "garbage", "break", "silence", "refuse", "fail", "reject")
PLUGIN = """
if request.messages[-1]["content"] == "fail":
    raise ValueError("a failure")
if request.messages[-1]["content"] == "reject":
    raise ContentRejected("No.")
return await call_next(request)
"""


@pytest.mark.parametrize("header", CREDENTIALS.values(), ids=CREDENTIALS)
async def test_a_key_turns_up_in_no_log_span_metric_or_error(
    proxy, upstream, collector, tmp_path, caplog, header
):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    toml = f"""
    upstream.first_byte_timeout = "150 ms"
    telemetry.endpoint = "{collector.url}"
    telemetry.capture_content = true
    telemetry.estimate_usage = false
    """
    running = await proxy((await upstream(every_ending)).url, toml + plugin(tmp_path, PLUGIN))
    answers = [
        await ask(running, request(chat_body(text, stream=stream), header))
        for text in ENDINGS
        for stream in (False, True)
    ]
    requests = (
        request(None, header, method="GET", target="/v1/models"),
        request(None, header, method="GET", target="/nowhere"),
        request(b"{", header),
        request(None, header, ("Upgrade", "websocket"), method="GET", target="/v1/realtime"),
        b"POST / HTTP/9.9\r\n" + f"{header[0]}: {header[1]}\r\n\r\n".encode(),
        request(chat_body(), header).replace(b"Host: test\r\n", b""),
        request(chat_body(), header, ("Transfer-Encoding", "chunked")),
    )
    answers.extend([await ask(running, data) for data in requests])
    exposition = await admin(running, "/metrics")
    is_http = header[1].isprintable()
    turns = await running.turns(2 * len(ENDINGS)) if is_http else []
    await running.stop()
    said = "\n".join(
        [
            caplog.text,
            repr(turns),
            repr(collector.spans),
            exposition.body.decode(),
            *(f"{a.headers} {a.body!r}" for a in answers),
        ]
    )
    for trace in TRACES:
        assert trace not in said


async def test_our_own_key_turns_up_nowhere(proxy, upstream, collector, caplog):
    caplog.set_level(logging.DEBUG)
    toml = f'telemetry.endpoint = "{collector.url}"\nupstream.first_byte_timeout = "150 ms"'
    running = await proxy((await upstream(every_ending)).url, f"{toml}\n{OURS}")
    said = ""
    for text in ENDINGS:
        key = ("Authorization", f"Bearer {CLIENT_KEY}")
        answer = await ask(running, request(chat_body(text), key))
        said += f"{answer.headers} {answer.body!r}"
    said += repr(await running.turns(len(ENDINGS)))
    said += (await admin(running, "/metrics")).body.decode()
    await running.stop()
    said += caplog.text + repr(collector.spans) + repr(running.server.configuration.settings)
    for secret in ("sk-CANARY-upstream", CLIENT_KEY):
        assert secret not in said
        assert fingerprint(secret) not in said.replace(
            repr(running.server.configuration.settings), ""
        )


async def test_what_a_client_says_of_itself_is_not_answered_to_another(proxy, upstream):
    async def script(call):
        await asyncio.sleep(0)
        await call.answer(call.header("Authorization").encode(), content_type="text/plain")

    running = await proxy((await upstream(script)).url)
    async with await Client.open(running.server.port) as client:
        for number in range(20):
            key = f"Bearer sk-{number}"
            await client.send(request(b"{}", ("Authorization", key), target="/v1/embeddings"))
            assert (await client.answer()).body.decode() == key
