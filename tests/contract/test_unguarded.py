"""No quiet way round the plugins: what happens to other endpoints that carry messages."""

from __future__ import annotations

import pytest

from proxy.callers import fingerprint
from tests.support.frames import handshake
from tests.support.wire import connected, fetch

REFUSE = 'server.unguarded = "refuse"\n'
BODY = b'{"input":"Hi"}'
CARRY_MESSAGES = [
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/responses?stream=true"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/conversations/conv_1/items"),
    ("POST", "/v1/threads/runs"),
    ("POST", "/v1/threads/t/messages"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/realtime/client_secrets"),
    ("POST", "/v1/live"),
    ("POST", "/v1/agents/sessions"),
    ("POST", "/v1/decisions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
    ("POST", "/v1/openai/deployments/gpt-4o/responses"),
    ("POST", "/v1/engines/davinci/completions"),
]
SOCKETS = ["/v1/realtime?model=m", "/v1/responses", "/v1/live", "/v1//Realtime?model=m"]
OTHERS = [
    ("GET", "/v1/models"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/files"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/audio/speech"),
    ("GET", "/v1/agents"),
    ("POST", "/v1/completionist"),
]
# What an upstream may take for one of them, as many servers do.
SPELLINGS = [
    "/v1//responses",
    "/v1/responses/",
    "/v1/./responses",
    "/v1/x/../responses",
    "/v1/%72esponses",
    "/v1/responses%2Finput_tokens",
    "/v1/Responses",
    "/v1/responses;x=1",
    "/v1/responses;/input_tokens",
    "/v1/responses.json",
    "/v1/responses%3Fa=1",
    "/v1\\responses",
    "/v1/%5Cresponses",
    "/v1//THREADS//runs",
    "/v1/completions%2f",
    "/v1/Agents%2Fsessions;a/",
    "/v1/deployments/gpt%204o/chat;x/Completions",
]
CHAT_SPELLINGS = [
    "/v1/chat/completions/",
    "/v1/chat//completions",
    "/v1//chat/completions?x=%2F",
    "/v1/chat/%63ompletions",
    "/v1/chat%2Fcompletions",
    "/v1/Chat/Completions",
    "/v1/chat;x=1/completions",
]


async def unguarded(running, decision):
    answer = await fetch(running.admin_url, "GET", "/metrics")
    lines = [
        line
        for line in answer.body.decode().splitlines()
        if line.startswith("dragoman_unguarded") and f'"{decision}"' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines if "created" not in line)


@pytest.mark.parametrize(("method", "target"), [*CARRY_MESSAGES, *OTHERS])
async def test_everything_passes_where_nobody_says_otherwise(plain, upstream, method, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url)
    assert (await fetch(running.base_url, method, target, body=BODY)).status == 200
    assert (up.calls[0].target, up.calls[0].body) == (target, BODY)
    assert await unguarded(running, "passed") == ((method, target) in CARRY_MESSAGES)


@pytest.mark.parametrize(("method", "target"), CARRY_MESSAGES)
async def test_what_carries_messages_can_be_refused(plain, upstream, method, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, REFUSE)
    answer = await fetch(running.base_url, method, target, body=BODY)
    assert answer.status == 403
    error = answer.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == "endpoint_not_guarded"
    assert up.connections == 0
    assert await unguarded(running, "refused") == 1


@pytest.mark.parametrize("target", SOCKETS)
async def test_a_websocket_that_carries_messages_can_be_refused(plain, upstream, target):
    up = await upstream()
    running = await plain(up.url, REFUSE)
    async with connected(running.base_url) as client:
        assert (await handshake(client, target)).status == 403
    assert up.connections == 0


@pytest.mark.parametrize(("method", "target"), OTHERS)
async def test_what_carries_none_is_not_refused(plain, upstream, method, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, REFUSE)
    assert (await fetch(running.base_url, method, target, body=BODY)).status == 200


@pytest.mark.parametrize("target", SPELLINGS)
async def test_another_spelling_is_no_way_round(plain, upstream, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, REFUSE)
    answer = await fetch(running.base_url, "POST", target, body=BODY)
    assert answer.status in (400, 403, 404)
    assert up.connections == 0


KEYS = (
    'upstream.api_key = "sk-of-the-operator"\n'
    f'[[keys]]\nname = "app"\nsha256 = "{fingerprint("dgm-mine")}"\n'
)


@pytest.mark.parametrize(("method", "target"), [*CARRY_MESSAGES, *OTHERS])
async def test_each_endpoint_needs_a_key_where_chats_need_one(plain, upstream, method, target):
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, KEYS)
    for wrong in ([], [("Authorization", "Bearer dgm-other")], [("api-key", "sk-of-the-operator")]):
        answer = await fetch(running.base_url, method, target, *wrong, body=BODY)
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert up.connections == 0
    mine = ("Authorization", "Bearer dgm-mine")
    assert (await fetch(running.base_url, method, target, mine, body=BODY)).status == 200


@pytest.mark.parametrize("target", SOCKETS)
async def test_each_websocket_needs_a_key_where_chats_need_one(plain, upstream, target):
    up = await upstream(lambda call: call.answer(status="418 I got it"))
    running = await plain(up.url, KEYS)
    protocol = "Sec-WebSocket-Protocol"
    for wrong in ([], [("Authorization", "Bearer x")], [(protocol, "openai-insecure-api-key.x")]):
        async with connected(running.base_url) as client:
            assert (await handshake(client, target, *wrong)).status == 401
    assert up.connections == 0
    async with connected(running.base_url) as client:
        mine = (protocol, "realtime, openai-insecure-api-key.dgm-mine")
        assert (await handshake(client, target, mine)).status == 418


NO = """
from proxy.plugin import ContentRejected, Plugin

class No(Plugin):
    async def handle(self, request, call_next):
        raise ContentRejected("No.")
"""


@pytest.mark.parametrize("target", CHAT_SPELLINGS)
async def test_a_chat_in_another_spelling_passes_through_the_plugins(
    plain, upstream, tmp_path, target
):
    (tmp_path / "no.py").write_text(NO)
    table = '[[plugins]]\nuse = "./no.py:No"\nmatch.paths = ["/v1/chat/completions"]\n'
    up = await upstream()
    running = await plain(up.url, table)
    answer = await fetch(running.base_url, "POST", target, body=b'{"model":"m"}')
    assert answer.json["error"]["code"] == "content_policy_violation"
    assert up.connections == 0


@pytest.mark.parametrize("target", CHAT_SPELLINGS)
async def test_a_chat_in_another_spelling_is_the_upstreams_to_judge(plain, upstream, target):
    up = await upstream()
    running = await plain(up.url)
    assert (await fetch(running.base_url, "POST", target, body=BODY)).status == 200
    assert up.calls[0].target == target
