"""Nothing that a client says chooses where its request, or our key, goes."""

from __future__ import annotations

import pytest

from tests.support.raw import CHAT, Client, ask, chat_body, request
from tests.support.upstream import completion

OURS = 'upstream.api_key = "sk-ours"'


async def answer_all(call):
    await call.answer(completion("Hello."))


@pytest.fixture
async def decoy(upstream):
    """A listener that must hear nothing."""
    return await upstream(answer_all)


NAMES = (
    "api_base",
    "base_url",
    "api_key",
    "host",
    "url",
    "endpoint",
    "upstream",
    "target",
    "proxy",
)


@pytest.mark.parametrize("where", ["body", "header", "x-dragoman header", "query", "metadata"])
async def test_fields_of_a_request_never_change_its_destination(proxy, upstream, decoy, where):
    up = await upstream(answer_all)
    running = await proxy(up.url, OURS)
    fields = dict.fromkeys(NAMES, decoy.url)
    headers: tuple[tuple[str, str], ...] = ()
    target = CHAT
    body = chat_body()
    if where == "body":
        body = chat_body(**fields)
    elif where == "metadata":
        body = chat_body(metadata=fields, litellm_params=fields, extra_body=fields)
    elif where == "header":
        headers = tuple(
            (name.replace("_", "-"), url) for name, url in fields.items() if name != "host"
        )
        headers += (("X-Forwarded-Host", decoy.url), ("Forwarded", f"host={decoy.url}"))
    elif where == "x-dragoman header":
        headers = tuple(
            (f"x-dragoman-{name.replace('_', '-')}", url) for name, url in fields.items()
        )
    else:
        target = f"{CHAT}?" + "&".join(f"{name}={url}" for name, url in fields.items())
    answer = await ask(running, request(body, *headers, target=target))
    assert answer.status == 200
    assert decoy.connections == 0
    assert len(up.calls) == 1
    assert up.calls[0].header("Authorization") == "Bearer sk-ours"
    assert up.calls[0].body == body


@pytest.mark.parametrize(
    "field",
    ["image_url", "file_url", "input_audio", "video_url", "tools", "user", "web_search_options"],
)
async def test_a_url_found_in_a_request_is_never_fetched(proxy, upstream, decoy, field):
    part = {"type": field, field: {"url": f"{decoy.url}/{field}", "data": decoy.url}}
    tool = {"type": "mcp", "server_url": decoy.url}
    body = chat_body(
        messages=[{"role": "user", "content": [part, {"type": "text", "text": decoy.url}]}],
        tools=[tool],
        webhook=decoy.url,
    )
    up = await upstream(answer_all)
    running = await proxy(up.url)
    assert (await ask(running, request(body))).status == 200
    assert up.calls[0].body == body
    await running.turns()
    assert decoy.connections == 0


HOSTS = [
    "a/b?c#d",
    "evil.example",
    "127.0.0.1:1/v1/chat/completions",
    "/v1/models#",
    "user:secret@evil.example",
    "[::1",
    "",
    "x" * 300,
]


@pytest.mark.parametrize("host", HOSTS)
async def test_the_host_header_changes_nothing(proxy, upstream, host):
    up = await upstream(answer_all)
    running = await proxy(up.url)
    data = request(chat_body()).replace(b"Host: test", b"Host: " + host.encode())
    answer = await ask(running, data)
    if answer.status == 400:
        assert up.connections == 0
        return
    assert answer.status == 200
    assert up.calls[0].target == "/v1/chat/completions"
    assert up.calls[0].header("Host") == up.url.split("/")[2]


OUTSIDE = [
    "/admin",
    "/v1",
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/models/..%2f..%2fadmin",
    "/v1/./models",
    "//evil.example/v1/models",
    "/v2/models",
    "/v1models",
    "*",
    "v1/models",
    "?/v1/models",
]


@pytest.mark.parametrize("target", OUTSIDE)
async def test_a_path_that_is_none_of_the_api_reaches_no_upstream(proxy, upstream, target):
    up = await upstream(answer_all)
    running = await proxy(up.url, OURS)
    answer = await ask(running, request(method="GET", target=target))
    assert answer.status in (400, 404)
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert up.connections == 0


ODD = [
    "/v1//evil.example/x",
    "/v1/@evil.example",
    "/v1/\\evil.example",
    "/v1/http://evil.example/",
    "/v1/models;jsessionid=1",
    "/v1/org%2Fmodel",
    "/v1/a%2Bb",
    "/v1/ft:gpt-4o:org::id",
    "/v1/x?next=//evil.example",
    "/v1/:80/",
]


@pytest.mark.parametrize("base", ["", "/v1", "/openai/deployments/x"])
@pytest.mark.parametrize("target", ODD)
async def test_a_path_is_only_ever_appended_to_the_upstreams_own(proxy, upstream, target, base):
    up = await upstream(answer_all)
    running = await proxy(up.url.removesuffix("/v1") + base)
    answer = await ask(running, request(method="GET", target=target))
    if answer.status == 400:
        assert up.connections == 0
        return
    assert answer.status == 200
    assert up.calls[0].target == base + target.removeprefix("/v1")
    assert up.calls[0].header("Host") == up.url.split("/")[2]


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "file"])
async def test_an_absolute_target_goes_nowhere(proxy, upstream, decoy, scheme):
    up = await upstream(answer_all)
    running = await proxy(up.url, OURS)
    target = decoy.url.replace("http", scheme, 1) + "/chat/completions"
    answer = await ask(running, request(chat_body(), target=target))
    assert answer.status in (400, 404)
    assert up.connections == decoy.connections == 0


async def test_we_are_no_tunnel(proxy, upstream, decoy):
    up = await upstream(answer_all)
    running = await proxy(up.url, OURS)
    address = decoy.url.split("/")[2]
    async with await Client.open(running.server.port) as client:
        await client.send(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        await client.send(request(method="GET", target="/v1/models"))
        assert (await client.answer()).status in (400, 404, 405)
    assert decoy.connections == 0


async def test_a_redirect_of_the_upstream_takes_no_key_elsewhere(proxy, upstream, decoy):
    async def elsewhere(call):
        location = (("Location", f"{decoy.url}/chat/completions"),)
        await call.answer(b"{}", status="307 Temporary Redirect", headers=location)

    running = await proxy((await upstream(elsewhere)).url, OURS)
    answer = await ask(running, request(chat_body()))
    assert answer.status == 307
    assert decoy.connections == 0


async def test_a_proxy_that_the_environment_names_is_not_used(proxy, upstream, decoy, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, decoy.url)
    up = await upstream(answer_all)
    running = await proxy(up.url)
    assert (await ask(running, request(chat_body()))).status == 200
    assert decoy.connections == 0
