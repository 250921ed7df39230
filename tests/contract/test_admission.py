"""What plugins see of requests to other paths, and what the proxy promises about it."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from tests.support.frames import TEXT, accept, client_socket, handshake
from tests.support.plugins import plugin, told
from tests.support.raw import metric
from tests.support.redis import until
from tests.support.wire import connected, fetch

JSON = ("Content-Type", "application/json")
USAGE = b'{"model":"m-1","usage":{"input_tokens":7,"output_tokens":3}}'
EVENTS = (
    b'data: {"type":"response.created","response":{"model":"m-1"}}\n\n'
    b'data: {"type":"response.completed","response":' + USAGE + b"}\n\n"
)


def admit(folder, body, options="", **more):
    """The table of a plugin whose admit() has this body."""
    lines = "\n".join("        " + line for line in body.strip("\n").splitlines())
    code = f"class It(Plugin):\n    async def admit(self, forwarded):\n{lines}\n"
    return plugin(folder, code, options=options, **more)


METERED = """
async def used(report):
    told.append((report.usage.prompt_tokens, report.usage.completion_tokens, report.model))
async def ended(outcome):
    told.append(outcome.status)
forwarded.on_usage(used)
forwarded.on_finish(ended)
"""


async def settled(count):
    async def are_there():
        return len(told) >= count

    await until(are_there)
    await asyncio.sleep(0.05)  # more would come now
    return told


# ---- what it is shown


@pytest.mark.parametrize(
    ("method", "target", "sent", "body", "shown"),
    [
        ("GET", "/v1/models?a=1", [], None, ("/v1/models", None, False)),
        ("POST", "/v1//Embeddings/", [JSON], b'{"model":"e"}', ("/v1/embeddings", "e", False)),
        ("POST", "/v1/responses", [JSON], b'{"model":"m"}', ("/v1/responses", "m", False)),
        (
            "POST",
            "/v1/responses",
            [JSON],
            b'{"model":"m","model":"n"}',
            ("/v1/responses", None, True),
        ),
        ("POST", "/v1/responses", [JSON], b'{"model":1}', ("/v1/responses", None, True)),
        ("POST", "/v1/responses", [], b'{"model":"m"}', ("/v1/responses", None, True)),
        (
            "POST",
            "/v1/deployments/My%20GPT/completions",
            [JSON],
            b'{"model":"m"}',
            ("/v1/deployments/my gpt/completions", "My GPT", False),
        ),
        ("GET", "/v1/responses/r", [], None, ("/v1/responses/r", None, False)),
        ("POST", "/v1/files", [("Content-Type", "x/y")], b"data", ("/v1/files", None, False)),
    ],
)
async def test_it_is_shown_who_asks_for_what(
    plain, upstream, tmp_path, method, target, sent, body, shown
):
    code = "told.append((forwarded.path, forwarded.model, forwarded.may_be_any_model))\n"
    code += "told.append((forwarded.method, forwarded.session, forwarded.options))"
    up = await upstream(lambda call: call.answer())
    running = await plain(up.url, admit(tmp_path, code))
    ours = ("x-dragoman-session", "s")
    assert (await fetch(running.base_url, method, target, *sent, ours, body=body)).status == 200
    assert told == [shown, (method, "s", {"session": "s"})]
    assert (up.calls[0].target, up.calls[0].body) == (target, body or b"")


async def test_a_body_that_is_read_for_its_model_goes_on_byte_for_byte(plain, upstream, tmp_path):
    """However it comes, and with the length it had; an upload is not waited for."""
    up = await upstream(lambda call: call.answer())
    up.whole_bodies = False
    running = await plain(up.url, admit(tmp_path, "told.append(forwarded.model)"))
    body = b' {"input" : "\\u00e9", "model":"m", "seed": 12345678901234567890 }\n'
    async with connected(running.base_url) as client:
        length = ("Content-Length", str(len(body)))
        await client.ask("POST", "/v1/embeddings", JSON, length, ("Expect", "100-continue"))
        await client.send(*(body[i : i + 1] for i in range(len(body))))
        answer = await client.answer()
        assert (answer.status, answer.interim) == (200, [100])
        call = up.calls[0]
        assert await call.part() + await call.part() == body
        assert call.header("content-length") == length[1]
    async with connected(running.base_url) as client:
        await client.ask("POST", "/v1/files", ("Content-Length", "9"))
        await client.send(b"some")
        assert (await client.answer()).status == 200  # before all of it came
    assert told == ["m", None]


# ---- what it may do


async def test_it_refuses_before_anything_reaches_the_upstream(plain, upstream, tmp_path):
    table = admit(tmp_path, 'raise RateLimited("Slow.", headers={"retry-after": "7"})')
    up = await upstream()
    running = await plain(up.url, table)
    for method, body in (("GET", None), ("POST", b"x" * 3_000_000)):
        answer = await fetch(running.base_url, method, "/v1/files", body=body)
        assert (answer.status, answer.json["error"]["message"]) == (429, "Slow.")
        assert answer.header("retry-after") == "7"
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime")).status == 429
    assert up.connections == 0
    name = 'dragoman_plugin_duration_seconds_count{outcome="reject"'
    assert await metric(running, name.partition("{")[0]) == 3


async def test_its_headers_stand_in_place_of_the_upstreams(plain, upstream, tmp_path):
    table = admit(tmp_path, 'forwarded.headers["X-Left"] = "1"')

    async def script(call):
        if call.header("upgrade"):
            await accept(call, ("x-left", "8"))
        else:
            await call.answer(headers=(("x-left", "8"), ("x-left", "9"), ("x-other", "2")))

    running = await plain((await upstream(script)).url, table)
    answer = await fetch(running.base_url, "GET", "/v1/models")
    assert (answer.all("x-left"), answer.header("x-other")) == (["1"], "2")
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime")).all("x-left") == ["1"]


@pytest.mark.parametrize("how", ["whole", "refused", "unreachable", "left", "broken"])
async def test_accounts_are_settled_once_however_it_ends(plain, upstream, tmp_path, how):
    async def script(call):
        if how == "broken":
            await call.start_stream()
            call.reset()
        elif how == "left":
            await call.wait_closed()
        else:
            await call.answer(status="400 No")

    up = await upstream(script)
    table = admit(tmp_path, METERED)
    if how == "refused":
        table += admit(tmp_path, 'raise RateLimited("No.")', name="inner")
    running = await plain(up.url if how != "unreachable" else "http://127.0.0.1:9/v1", table)
    async with connected(running.base_url) as client:
        await client.ask("GET", "/v1/files/x")
        if how == "left":
            async with asyncio.timeout(5):
                while not up.calls:
                    await asyncio.sleep(0.01)
        else:
            await client.head("GET")
    expected = {"left": "cancelled", "whole": "completed"}.get(how, "failed")
    assert await settled(1) == [expected]


# ---- what it is told of usage


@pytest.mark.parametrize("offered", ["gzip, br", None])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream; charset=utf-8"])
@pytest.mark.parametrize("coding", [None, "gzip"])
async def test_what_an_answer_reports_is_told_and_no_byte_is_changed(
    plain, upstream, tmp_path, kind, coding, offered
):
    body = EVENTS if "event" in kind else USAGE
    if coding:
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(body) + packer.flush()

    async def script(call):
        codings = (("Content-Encoding", coding),) if coding else ()
        await call.answer(body, content_type=kind, headers=codings)

    up = await upstream(script)
    running = await plain(up.url, admit(tmp_path, METERED))
    sent = [("Accept-Encoding", offered)] if offered else []
    answer = await fetch(running.base_url, "POST", "/v1/responses", *sent, JSON, body=b"{}")
    assert answer.body == body
    assert await settled(2) == [(7, 3, "m-1"), "completed"]
    assert up.calls[0].header("accept-encoding") == ("gzip" if offered else None)
    (turn,) = await running.turns()
    assert (turn["route"], turn["model"]) == ("/v1/responses", "m-1")
    assert (turn["prompt_tokens"], turn["completion_tokens"]) == (7, 3)
    assert await metric(running, "dragoman_tokens_total") == 10


async def test_a_usage_that_was_reported_before_the_client_left_counts(plain, upstream, tmp_path):
    async def script(call):
        await call.start_stream()
        await call.chunk(EVENTS)
        await call.wait_closed()

    running = await plain((await upstream(script)).url, admit(tmp_path, METERED))
    async with connected(running.base_url) as client:
        await client.post("/v1/responses", b"{}")
        await client.head()
        await client.until(b"completed")
    assert await settled(2) == [(7, 3, "m-1"), "cancelled"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/chat/completions/chatcmpl-1"),
        ("POST", "/v1/threads/t/runs/r"),
        ("POST", "/v1/batches/b/cancel"),
    ],
)
async def test_what_was_made_before_is_not_told_again(plain, upstream, tmp_path, method, target):
    up = await upstream(lambda call: call.answer(USAGE))
    running = await plain(up.url, admit(tmp_path, METERED))
    answer = await fetch(running.base_url, method, target, JSON, body=b"{}")
    assert answer.body == USAGE
    assert await settled(1) == ["completed"]


async def test_an_answer_that_cannot_be_counted_is_counted_as_such(plain, upstream, tmp_path):
    async def script(call):
        coded = call.target.endswith("embeddings")
        headers = (("Content-Encoding", "br"),) if coded else ()
        await call.answer(b"{}", headers=headers)

    running = await plain((await upstream(script)).url, admit(tmp_path, METERED))
    for target in ("/v1/embeddings", "/v1/responses"):
        assert (await fetch(running.base_url, "POST", target, body=b"{}")).status == 200
    text = (await fetch(running.admin_url, "GET", "/metrics")).body.decode()
    name = "dragoman_unmetered_answers_total"
    assert f'{name}{{http_route="/v1/embeddings",reason="coding"}} 1.0' in text
    assert f'{name}{{http_route="/v1/responses",reason="unreported"}} 1.0' in text


async def test_each_answer_of_a_websocket_is_told_and_one_that_is_too_much_ends_it(
    plain, upstream, tmp_path
):
    enough = METERED.replace(
        "async def ended",
        '    if len(told) > 1:\n        raise RateLimited("Enough.")\nasync def ended',
    )
    done = asyncio.Event()

    async def script(call):
        socket = await accept(call)
        for _ in range(2):
            await socket.send(TEXT, b'{"type":"delta","delta":"\\"usage\\""}')
            await socket.send(TEXT, b'{"type":"response.done","response":' + USAGE + b"}")
        frame = await socket.receive()
        assert frame is not None
        told.append(("upstream", frame.code))
        await socket.close(1000)
        done.set()

    running = await plain((await upstream(script)).url, admit(tmp_path, enough))
    async with connected(running.base_url) as client:
        assert (await handshake(client, "/v1/realtime?model=m")).status == 101
        socket = client_socket(client)
        for _ in range(4):
            frame = await socket.receive()
            assert frame is not None
            assert frame.kind == TEXT
        closed = await socket.receive()
        assert closed is not None
        assert (closed.code, closed.reason) == (1008, "rate_limit_exceeded")
        await socket.close(1008)
        assert await socket.receive() is None
        async with asyncio.timeout(10):
            await done.wait()
    assert await settled(4) == [(7, 3, "m-1"), (7, 3, "m-1"), ("upstream", 1000), "failed"]
    (turn,) = await running.turns()
    assert (turn["prompt_tokens"], turn["termination"]) == (14, "rate_limit_exceeded")


# ---- what is promised


@pytest.mark.parametrize("body", ["raise ValueError", "await asyncio.sleep(60)"])
@pytest.mark.parametrize(("on_error", "status"), [("open", 200), ("closed", 503)])
async def test_a_failure_goes_as_far_as_on_error_says(
    plain, upstream, tmp_path, body, on_error, status
):
    up = await upstream(lambda call: call.answer())
    options = f'on_error = "{on_error}"\ntimeout = "50 ms"'
    running = await plain(up.url, admit(tmp_path, body, options))
    assert (await fetch(running.base_url, "GET", "/v1/models")).status == status
    assert await metric(running, "dragoman_plugin_failures_total") == 1


async def test_a_plugin_in_shadow_refuses_and_changes_nothing(plain, upstream, tmp_path):
    body = 'forwarded.headers["x-left"] = "1"\n' + METERED + 'raise RateLimited("No.")'
    up = await upstream(lambda call: call.answer(USAGE))
    running = await plain(up.url, admit(tmp_path, body, 'mode = "shadow"'))
    answer = await fetch(running.base_url, "POST", "/v1/responses", JSON, body=b"{}")
    assert (answer.status, answer.header("x-left")) == (200, None)
    assert await settled(2) == [(7, 3, "m-1"), "completed"]
    (turn,) = await running.turns()
    assert [each["outcome"] for each in turn["plugins"]] == ["reject"]


@pytest.mark.parametrize(
    ("match", "target", "body", "is_seen"),
    [
        ('paths = ["/v1/embeddings"]', "/v1/Embeddings", b"{}", True),
        ('paths = ["/v1/embeddings"]', "/v1/models", None, False),
        ('callers = ["anonymous"]', "/v1/models", None, True),
        ('callers = ["alice"]', "/v1/models", None, False),
        ('models = ["o3*"]', "/v1/embeddings", b'{"model":"o3-x"}', True),
        ('models = ["o3*"]', "/v1/embeddings", b'{"model":"e"}', False),
        ('models = ["o3*"]', "/v1/embeddings", b"{", False),
        ('models = ["o3*"]', "/v1/responses", b'{"model":"e"}', False),
        ('models = ["o3*"]', "/v1/responses", b"{", True),
        ('models = ["o3*"]', "/v1/files", None, False),
    ],
)
async def test_match_says_what_it_sees(plain, upstream, tmp_path, match, target, body, is_seen):
    up = await upstream(lambda call: call.answer())
    table = admit(tmp_path, "told.append(1)", f"match = {{ {match} }}")
    running = await plain(up.url, table)
    method = "GET" if body is None else "POST"
    assert (await fetch(running.base_url, method, target, JSON, body=body)).status == 200
    assert bool(told) == is_seen


async def test_a_plugin_without_admit_leaves_all_as_it_is(plain, upstream, tmp_path):
    """Also the codings that are offered, which a plugin that counts would have restricted."""
    up = await upstream(lambda call: call.answer(USAGE))
    running = await plain(up.url, plugin(tmp_path, "return await call_next(request)"))
    accepted = ("Accept-Encoding", "br")
    await fetch(running.base_url, "POST", "/v1/responses", accepted, JSON, body=b"{}")
    assert up.calls[0].header("accept-encoding") == "br"
    assert await metric(running, "dragoman_tokens_total") == 0
