"""What a key's table says of it: which models it may ask, until when, and in which groups it is."""

from __future__ import annotations

import gzip

import openai
import pytest

from proxy.callers import fingerprint
from tests.support.plugins import plugin, told
from tests.support.raw import CHAT, Client, ask, chat_body, request
from tests.support.wire import fetch

KEYS = 'upstream.api_key = "sk-of-the-operator"\n' + "".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{fingerprint(name)}"\n{more}\n'
    for name, more in {
        "some": 'models = ["gpt-4o*", "text-embedding-?"]',
        "all": "",
        "ann": 'groups = ["free"]',
        "ben": 'groups = ["paid", "free"]',
        "cat": 'groups = ["paid"]',
        "old": "expires = 2020-12-31",
        "new": "expires = 9999-12-31",
    }.items()
)
PLUGIN = "return await call_next(request)"


def bearer(name):
    return ("Authorization", f"Bearer {name}")


async def chat(running, name, **fields):
    return await ask(running, request(chat_body(**fields), bearer(name)))


@pytest.fixture(params=["with plugins", "without"])
async def running(request, plain, upstream, tmp_path):
    up = await upstream(lambda call: call.answer(b"{}"))
    more = plugin(tmp_path, PLUGIN) if request.param == "with plugins" else ""
    started = await plain(up.url, KEYS + more)
    started.upstream = up
    return started


# ---- models


async def test_a_key_asks_the_models_of_its_table_and_no_other(running):
    for stream in (False, True):
        assert (await chat(running, "some", model="gpt-4o-mini", stream=stream)).status == 200
        assert (await chat(running, "all", model="o3", stream=stream)).status == 200
        for model in ("o3", "GPT-4o", "xgpt-4o", "gpt-4", "", None, ["gpt-4o"], {"a": 1}, 5):
            answer = await chat(running, "some", model=model, stream=stream)
            assert (answer.status, answer.code) == (403, "model_not_found")
    assert {call.json["model"] for call in running.upstream.calls} == {"gpt-4o-mini", "o3"}


async def test_the_real_client_is_told_which_model_it_may_not_ask(running):
    async with running.client(api_key="some") as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat.completions.create(model="o3", messages=[])
    assert caught.value.code == "model_not_found"
    assert "`o3`" in caught.value.message


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"gpt-4o","messages":[],"model":"o3"}', 400),
        (b'{"model":"gpt-4o","messages":[],"Model":"o3"}', 403),
        (b'{"model":"gpt-4o","messages":[],"models":["gpt-4o","o3"]}', 403),
        (b'{"model":"gpt-4o","messages":[],"models":[]}', 403),
        (b'{"messages":[]}', 403),
        (b'{"model":"gpt-4o"', 400),
        (b"", 400),
    ],
)
async def test_no_spelling_of_a_body_shows_us_one_model_and_the_upstream_another(
    running, body, status
):
    answer = await ask(running, request(body, bearer("some")))
    assert answer.status == status
    assert running.upstream.calls == []


async def test_what_cannot_be_read_is_not_passed_on_for_a_key_with_models(plain, upstream):
    up = await upstream()
    running = await plain(up.url, "server.max_body = 1_000\n" + KEYS)
    packed = gzip.compress(chat_body(model="o3"))
    for target in (CHAT, "/v1/responses"):
        sent = request(packed, bearer("some"), ("Content-Encoding", "gzip"), target=target)
        assert (await ask(running, sent)).status == 415
        long = request(chat_body("x" * 2_000, model="gpt-4o"), bearer("some"), target=target)
        async with await Client.open(running.server.port) as client:
            await client.send(long)
            assert (await client.answer()).status == 413
    assert up.connections == 0


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/v1/models", None, 200),
        ("DELETE", "/v1/files/file-1", None, 200),
        ("POST", "/v1/embeddings", b'{"model":"text-embedding-3","input":"Hi"}', 200),
        ("POST", "/v1/responses", b'{ "model": "gpt-4o", "input": "Hi" }', 200),
        ("POST", "/v1/embeddings", b'{"model":"ada","input":"Hi"}', 403),
        ("POST", "/v1/responses", b'{"model":"o3","input":"Hi"}', 403),
        ("POST", "/v1/responses", b'{"prompt":{"id":"p"}}', 403),
        ("POST", "/v1/responses/", b'{"model":"gpt-4o"}', 403),
        ("POST", "/v1/deployments/o3/chat/completions", b'{"model":"gpt-4o"}', 403),
        ("POST", "/v1/models/o3:generate", b'{"model":"gpt-4o"}', 403),
        ("POST", "/v1/batches", b'{"input_file_id":"f"}', 403),
        ("GET", "/v1/responses", b'{"model":"gpt-4o"}', 200),
    ],
)
async def test_other_endpoints_are_forwarded_where_the_model_is_known_and_allowed(
    running, method, target, body, status
):
    sent = request(body, bearer("some"), method=method, target=target)
    assert (await ask(running, sent)).status == status
    assert [call.body for call in running.upstream.calls] == [body or b""] * (status == 200)
    free = request(body, bearer("all"), method=method, target=target)
    assert (await ask(running, free)).status == 200


async def test_a_websocket_is_not_opened_for_a_key_with_models(running):
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"))
    answer = await fetch(running.base_url, "GET", "/v1/realtime?model=o3", bearer("some"), *upgrade)
    assert answer.status == 403
    assert running.upstream.connections == 0


# ---- until when


async def test_a_key_that_has_expired_is_refused(running):
    answer = await chat(running, "old")
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert (await chat(running, "new")).status == 200


# ---- groups


async def test_plugins_limits_budgets_and_scenes_find_keys_by_their_groups(
    proxy, upstream, tmp_path
):
    up = await upstream()
    limit = """
    [[plugins]]
    use = "rate_limit"
    [[plugins.limits]]
    name = "free"
    requests = 2
    match.callers = ["group:free"]
    [[plugins]]
    use = "budget"
    [[plugins.budgets]]
    name = "paid"
    tokens = 1_000_000
    soft = 0.000001
    callers = ["group:paid"]
    [[plugins]]
    use = "sampling"
    [[plugins.scenes]]
    name = "paid"
    callers = ["group:paid"]
    overrides.temperature = 0.25
    """
    seen = plugin(
        tmp_path,
        "told.append(request.caller.name)\nreturn await call_next(request)",
        options='match.callers = ["group:fr*"]',
    )
    running = await proxy(up.url, KEYS + limit + seen)
    statuses = {
        name: [(await chat(running, name)).status for _ in range(4)]
        for name in ("ann", "ben", "cat")
    }
    assert statuses == {
        "ann": [200, 200, 429, 429],
        "ben": [200, 200, 429, 429],
        "cat": [200] * 4,
    }
    assert told == ["ann", "ann", "ben", "ben"]
    warmed = {call.json.get("temperature") for call in up.calls[:2]}
    assert warmed == {None}
    assert {call.json.get("temperature") for call in up.calls[2:]} == {0.25}
    warned = {
        name: (await chat(running, name)).header("x-dragoman-budget") for name in ("cat", "all")
    }
    assert warned["cat"] is not None
    assert warned["all"] is None
