"""Whose key the upstream sees: the client's own, or the operator's and never the client's."""

from __future__ import annotations

import openai
import pytest

from proxy.callers import fingerprint
from tests.support.wire import fetch

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
MINE = "dgm-of-a-client"
KEYS = f'[[keys]]\nname = "app"\nsha256 = "{fingerprint(MINE)}"\n'
OURS = 'upstream.api_key = "sk-of-the-operator"\n'
BOTH = pytest.mark.parametrize("target", [CHAT, "/v1/embeddings", "/v1/responses"])


def credentials(call):
    names = ("authorization", "api-key")
    return [(name.lower(), value) for name, value in call.headers if name.lower() in names]


# ---- no key of ours


@BOTH
@pytest.mark.parametrize(
    "sent",
    [
        [("Authorization", "Bearer sk-own")],
        [("api-key", "azure-own")],
        [("authorization", "bearer  odd "), ("API-Key", "both")],
        [("Authorization", "Basic dTpw")],
        [],
    ],
)
async def test_a_clients_key_is_passed_on_as_it_came(plain, upstream, target, sent):
    up = await upstream()
    running = await plain(up.url)
    await fetch(running.base_url, "POST", target, *sent, body=BODY)
    assert credentials(up.calls[0]) == [(name.lower(), value.strip()) for name, value in sent]


async def test_the_upstream_judges_the_clients_key(plain, upstream):
    refusal = b'{"error":{"message":"Incorrect API key provided: sk-o**","code":"invalid_api_key"}}'
    up = await upstream(lambda call: call.answer(refusal, status="401 Unauthorized"))
    running = await plain(up.url)
    answer = await fetch(running.base_url, "POST", CHAT, ("Authorization", "Bearer x"), body=BODY)
    assert (answer.status, answer.body) == (401, refusal)


# ---- a key of ours


@BOTH
@pytest.mark.parametrize("header", ["authorization", "api-key"])
@pytest.mark.parametrize(
    "sent",
    [
        [("Authorization", f"Bearer {MINE}")],
        [("authorization", f"bearer {MINE}"), ("Api-Key", "something")],
        [("api-key", MINE)],
        [("API-KEY", MINE)],
    ],
)
async def test_the_upstream_sees_our_key_and_never_the_clients(
    plain, upstream, target, header, sent
):
    up = await upstream()
    running = await plain(up.url, OURS + f'upstream.api_key_header = "{header}"\n' + KEYS)
    answer = await fetch(running.base_url, "POST", target, *sent, body=BODY)
    assert answer.status == 200
    ours = "Bearer sk-of-the-operator" if header == "authorization" else "sk-of-the-operator"
    assert credentials(up.calls[0]) == [(header, ours)]
    assert MINE.encode() not in up.calls[0].head


@BOTH
@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([], "No API key provided."),
        ([("Authorization", "Bearer ")], None),
        ([("Authorization", "Bearer sk-of-the-operator")], "Incorrect API key provided."),
        ([("Authorization", f"Bearer {MINE}x")], "Incorrect API key provided."),
        ([("Authorization", f"Bearer {MINE[:-1]}")], "Incorrect API key provided."),
        ([("Authorization", f"Bearer {fingerprint(MINE)}")], "Incorrect API key provided."),
        ([("Authorization", MINE.upper())], "Incorrect API key provided."),
        ([("api-key", "wrong")], "Incorrect API key provided."),
        ([("Authorization", "Bearer wrong"), ("api-key", MINE)], "Incorrect API key provided."),
    ],
)
async def test_a_client_without_a_key_that_we_know_is_refused(
    plain, upstream, target, sent, message
):
    up = await upstream()
    running = await plain(up.url, OURS + KEYS)
    answer = await fetch(running.base_url, "POST", target, *sent, body=BODY)
    assert answer.status == 401
    error = answer.json["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert error["message"] == message or message is None
    assert error["param"] is None
    assert up.connections == 0


async def test_the_real_client_is_told_that_its_key_is_wrong(plain, upstream):
    running = await plain((await upstream()).url, OURS + KEYS)
    async with running.client(api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert caught.value.code == "invalid_api_key"
    async with running.client(api_key=MINE) as client:
        answer = await client.chat.completions.create(model="m", messages=[])
    assert answer.choices[0].message.content == "Hello."


async def test_a_client_needs_no_key_where_the_operator_lends_its_own(plain, upstream):
    up = await upstream()
    running = await plain(up.url, OURS)
    for sent in ([], [("Authorization", "Bearer sk-own")]):
        await fetch(running.base_url, "POST", CHAT, *sent, body=BODY)
    ours = ("authorization", "Bearer sk-of-the-operator")
    assert [credentials(call) for call in up.calls] == [[ours], [ours]]


async def test_azures_client_is_served_by_its_header(plain, upstream):
    up = await upstream()
    running = await plain(up.url)
    client = openai.AsyncAzureOpenAI(
        base_url=running.base_url, api_key="azure-own", api_version="2024-10-21", max_retries=0
    )
    async with client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=[])
    assert answer.choices[0].message.content == "Hello."
    assert credentials(up.calls[0]) == [("api-key", "azure-own")]
    assert up.calls[0].target.endswith("/chat/completions?api-version=2024-10-21")
