"""Endpoints of plugins: for clients below /dragoman/v1/, for operators below /admin/."""

from __future__ import annotations

import json

import pytest

from proxy.callers import fingerprint
from proxy.errors import ConfigError
from tests.support.plugins import plugin
from tests.support.raw import admin
from tests.support.wire import fetch

NOTES = """
class It(Plugin):
    def endpoints(self):
        return [
            Endpoint("GET", "/dragoman/v1/notes/{id}", self.show),
            Endpoint("PUT", "/dragoman/v1/notes/{id}/lines/{n}", self.write),
            Endpoint("GET", "/dragoman/v1/broken", self.fail),
            Endpoint("GET", "/dragoman/v1/away", self.away),
            Endpoint("GET", "/admin/notes", self.table),
        ]

    async def show(self, request):
        if request.path["id"] == "none":
            raise NotFound("No such note.", code="note_not_found")
        told = {"caller": request.caller.name, "id": request.path["id"], "query": request.query}
        return EndpointResponse(told, headers={"X-Note": "1"})

    async def write(self, request):
        return EndpointResponse({**request.path, "body": request.body}, status=201)

    async def fail(self, request):
        raise RuntimeError("secret")

    async def away(self, request):
        raise StoreUnavailable("frozen")

    async def table(self, request):
        return EndpointResponse(f"asked by {request.caller.id}\\n")
"""
KEYS = f'[[keys]]\nname = "app"\nsha256 = "{fingerprint("dgm-app")}"\n'
APP = ("Authorization", "Bearer dgm-app")


@pytest.fixture
async def running(proxy, upstream, tmp_path):
    up = await upstream()
    return await proxy(up.url, 'upstream.api_key = "sk-ours"\n' + plugin(tmp_path, NOTES) + KEYS)


async def ask(running, method, path, *headers, body=None):
    root = running.base_url.removesuffix("/v1")
    answer = await fetch(root, method, path, *(headers or (APP,)), body=body)
    return answer, json.loads(answer.body) if answer.body else None


async def test_a_plugin_answers_at_the_places_it_names(running):
    answer, told = await ask(running, "GET", "/dragoman/v1/notes/a%20b%2Fc?full=&x=1")
    assert (answer.status, answer.header("x-note")) == (200, "1")
    assert told == {"caller": "app", "id": "a b/c", "query": {"full": "", "x": "1"}}
    assert answer.header("x-request-id")
    answer, told = await ask(running, "PUT", "/dragoman/v1/notes/1/lines/2", body=b'{"text":"hi"}')
    assert (answer.status, told) == (201, {"id": "1", "n": "2", "body": {"text": "hi"}})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/dragoman/v1/notes/none", None, 404, "note_not_found"),
        ("GET", "/dragoman/v1/notes", None, 404, "unknown_url"),
        ("GET", "/dragoman/v1/notes/a/b", None, 404, "unknown_url"),
        ("GET", "/dragoman/v2/notes/a", None, 404, "unknown_url"),
        ("GET", "/admin/notes", None, 404, "unknown_url"),
        ("DELETE", "/dragoman/v1/notes/a", None, 405, "method_not_allowed"),
        ("PUT", "/dragoman/v1/notes/1/lines/2", b'{"a":1,"a":2}', 400, "invalid_json"),
        ("PUT", "/dragoman/v1/notes/1/lines/2", b"[]", 400, "invalid_json"),
        ("PUT", "/dragoman/v1/notes/1/lines/2", b" " * 1_000_001, 413, "request_too_large"),
        ("GET", "/dragoman/v1/away", None, 503, "plugin_unavailable"),
    ],
)
async def test_what_is_wrong_is_said_in_openais_shape(running, method, path, body, status, code):
    answer, told = await ask(running, method, path, body=body)
    assert (answer.status, told["error"]["code"]) == (status, code)


async def test_clients_need_their_key(running):
    nobody = ("Authorization", "Bearer other")
    answer, told = await ask(running, "GET", "/dragoman/v1/notes/a", nobody)
    assert (answer.status, told["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.expects_internal_error
async def test_an_endpoint_that_fails_says_nothing_of_why(running):
    answer, _ = await ask(running, "GET", "/dragoman/v1/broken")
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_operators_have_endpoints_of_their_own(running):
    answer = await admin(running, "/admin/notes")
    assert (answer.status, answer.body) == (200, b"asked by operator\n")
    answer = await admin(running, "/dragoman/v1/notes/a")
    assert answer.status == 404
    assert b"/admin/notes" in answer.body


async def test_endpoints_are_counted_by_their_pattern(running):
    for name in "ab":
        await ask(running, "GET", f"/dragoman/v1/notes/{name}")
    text = (await admin(running, "/metrics")).body.decode()
    assert 'route="/dragoman/v1/notes/{id}"' in text
    assert "/notes/a" not in text


async def test_nothing_of_them_reaches_the_upstream(proxy, upstream, tmp_path):
    up = await upstream()
    running = await proxy(up.url, plugin(tmp_path, NOTES))
    for path in ("/dragoman/v1/notes/a", "/dragoman/v1/other", "/dragoman/"):
        await ask(running, "GET", path)
    assert not up.calls


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/v1/notes", "is below /dragoman/v1/"), ("/dragoman/v1/{other}", "two plugins answer GET")],
)
async def test_a_place_that_is_taken_or_not_theirs_keeps_the_proxy_from_starting(
    proxy, upstream, tmp_path, path, problem
):
    one = f'Endpoint("GET", "{path}", self.stop)'
    code = f"class It(Plugin):\n    def endpoints(self):\n        return [{one}]\n"
    tables = plugin(tmp_path, code, name="a") + plugin(tmp_path, code, name="b")
    with pytest.raises(ConfigError, match=problem):
        await proxy((await upstream()).url, tables)
