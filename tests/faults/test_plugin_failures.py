"""A plugin that fails changes an exchange no further than its `on_error` says."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.plugins import plugin, told
from tests.support.raw import ask, ask_chat, chat_body, metric, request

UNCOUNTED = "telemetry.estimate_usage = false"
OPEN, CLOSED = 'on_error = "open"', 'on_error = "closed"'

BEFORE = {
    "raises": "raise ValueError('oops')",
    "raises a connection's error": "raise ConnectionResetError",
    "raises a timeout of its own": "raise TimeoutError",
    "fails an assertion": "assert False",
    "panics": "class PanicException(BaseException): pass\nraise PanicException('native')",
    "leaves the program": "raise SystemExit(3)",
    "is cancelled by itself": "raise asyncio.CancelledError",
    "awaits a task that was cancelled": "task = asyncio.get_running_loop().create_task("
    "asyncio.sleep(9))\ntask.cancel()\nawait task",
    "recurses": "async def again(): await again()\nawait again()",
    "hangs": "await asyncio.sleep(60)",
    "hangs and says so itself": "async with asyncio.timeout(0.1): await asyncio.sleep(60)",
    "returns nothing": "return None",
    "returns the request": "return request",
    "returns a string": "return 'Hello'",
    "gives call_next something else": "return await call_next({'model': 'm'})",
    "gives call_next nothing": "return await call_next(None)",
    "makes a request that cannot be sent": "return await call_next(request.replace(x=object()))",
    "makes a request without end": "x = []; x.append(x)\nreturn await call_next(request.replace(x=x))",
}
AFTER = {
    "raises": "raise ValueError('oops')",
    "panics": "class PanicException(BaseException): pass\nraise PanicException('native')",
    "leaves the program": "raise SystemExit(3)",
    "is cancelled by itself": "raise asyncio.CancelledError",
    "hangs": "await asyncio.sleep(60)",
    "returns nothing": "return None",
    "returns a string": "return 'Hello'",
    "calls twice": "return await call_next(request)",
    "calls twice at once": "await asyncio.gather(call_next(request), call_next(request))",
}
CASES = [(f"before: {name}", code) for name, code in BEFORE.items()]
CASES += [
    (f"after: {name}", f"response = await call_next(request)\n{code}")
    for name, code in AFTER.items()
]
QUICK = 'timeout = "200 ms"'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "code"), CASES, ids=[name for name, _ in CASES])
async def test_an_open_plugin_that_fails_changes_nothing(
    proxy, upstream, tmp_path, name, code, stream
):
    up = await upstream()
    plain = await ask_chat(await proxy(up.url, UNCOUNTED), stream=stream)
    toml = plugin(tmp_path, code, options=f"{OPEN}\n{QUICK}")
    running = await proxy(up.url, f"{UNCOUNTED}\n{toml}")
    answer = await ask_chat(running, stream=stream)
    assert (answer.status, answer.body) == (200, plain.body)
    assert up.calls[-1].body == up.calls[0].body
    assert len(up.calls) == 2  # once for each client
    turn = (await running.turns())[0]
    assert turn["termination"] == "completed"
    assert [(p["name"], p["outcome"]) for p in turn["plugins"]] == [("unlucky", "error")]
    assert await metric(running, "dragoman_plugin_failures_total") == 1
    assert (await ask_chat(running, stream=stream)).status == 200  # it serves on


@pytest.mark.parametrize(("name", "code"), CASES, ids=[name for name, _ in CASES])
async def test_a_closed_plugin_that_fails_is_a_503(proxy, upstream, tmp_path, name, code):
    up = await upstream()
    toml = plugin(tmp_path, code, options=f"{CLOSED}\n{QUICK}")
    running = await proxy(up.url, f"{UNCOUNTED}\n{toml}")
    for stream in (False, True):
        answer = await ask_chat(running, stream=stream)
        assert (answer.status, answer.code) == (503, "plugin_unavailable")
        assert "unlucky" in answer.json["error"]["message"]
        assert b"oops" not in answer.body
        assert (await running.turns())[0]["termination"] == "plugin_unavailable"
    assert len(up.calls) == (2 if name.startswith("after") else 0)


async def test_a_stream_that_a_failed_plugin_leaves_behind_is_closed(proxy, upstream, tmp_path):
    closed = asyncio.Event()

    async def script(call):
        await call.start_stream()
        await call.wait_closed()
        closed.set()

    code = "response = await call_next(request)\nraise ValueError"
    running = await proxy((await upstream(script)).url, plugin(tmp_path, code, options=CLOSED))
    assert (await ask_chat(running, stream=True)).code == "plugin_unavailable"
    async with asyncio.timeout(5):
        await closed.wait()


async def test_a_failure_is_logged_with_its_traceback_once_a_minute(
    proxy, upstream, tmp_path, caplog
):
    toml = plugin(tmp_path, "raise ValueError('oops')", options=OPEN)
    running = await proxy((await upstream()).url, toml)
    for _ in range(5):
        await ask_chat(running)
    failures = [r for r in caplog.records if "plugin unlucky failed" in r.getMessage()]
    assert [bool(r.exc_info) for r in failures] == [True, False, False, False, False]
    assert failures[0].exc_text
    assert "plugin_" in failures[0].exc_text  # the author's own line
    assert await metric(running, "dragoman_plugin_failures_total") == 5


async def test_a_broken_contract_tells_the_author_what_and_where(proxy, upstream, tmp_path, caplog):
    running = await proxy((await upstream()).url, plugin(tmp_path, "return None", options=OPEN))
    await ask_chat(running)
    assert "plugin unlucky failed, on_error=open: handle() returned NoneType" in caplog.text


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ('raise ContentRejected("Not here.", param="messages")', 400, "content_policy_violation"),
        ('raise RateLimited("Slowly.", headers={"Retry-After": "3"})', 429, "rate_limit_exceeded"),
        ('raise Unauthorized("Who?")', 401, "invalid_api_key"),
        (
            'await call_next(request)\nraise ContentRejected("Not so.")',
            400,
            "content_policy_violation",
        ),
    ],
)
@pytest.mark.parametrize("on_error", [OPEN, CLOSED])
async def test_a_refusal_that_is_meant_passes_whatever_on_error_says(
    proxy, upstream, tmp_path, code, status, error, on_error
):
    up = await upstream()
    running = await proxy(up.url, plugin(tmp_path, code, options=on_error))
    answer = await ask_chat(running)
    assert (answer.status, answer.code) == (status, error)
    turn = (await running.turns())[0]
    assert (turn["termination"], turn["source"]) == (error, "unlucky")
    assert turn["plugins"][0]["outcome"] == "reject"


async def test_the_upstreams_failure_is_not_blamed_on_a_plugin(proxy, upstream, tmp_path):
    async def reset(call):
        call.reset()

    running = await proxy(
        (await upstream(reset)).url, plugin(tmp_path, "return await call_next(request)")
    )
    assert (await ask_chat(running)).code == "upstream_unreachable"
    assert (await running.turns())[0]["plugins"][0]["outcome"] == "pass"


async def test_an_open_plugin_that_cancels_its_own_call_does_not_lose_the_exchange(
    proxy, upstream, tmp_path
):
    """It wraps call_next in a limit of its own; the first call is cancelled by it."""
    calls = []

    async def script(call):
        calls.append(call)
        if len(calls) == 1:
            await call.wait_closed()
        else:
            await call.chat()

    code = "return await asyncio.wait_for(call_next(request), 0.1)"
    running = await proxy((await upstream(script)).url, plugin(tmp_path, code, options=OPEN))
    assert (await ask_chat(running)).status == 200


async def test_a_closed_plugin_that_cancels_its_own_call_is_a_503(proxy, upstream, tmp_path):
    async def script(call):
        await call.wait_closed()

    code = "return await asyncio.wait_for(call_next(request), 0.1)"
    running = await proxy((await upstream(script)).url, plugin(tmp_path, code, options=CLOSED))
    assert (await ask_chat(running)).code == "plugin_unavailable"


async def test_a_failed_plugin_leaves_those_around_it_in_place(proxy, upstream, tmp_path):
    async def echo(call):
        await call.chat(call.json["messages"][0]["content"])

    outer = plugin(tmp_path, "return (await call_next(request)).map_text(str.upper)", name="outer")
    broken = plugin(tmp_path, "raise ValueError", options=OPEN, name="broken")
    inner = plugin(tmp_path, "return await call_next(request.replace(seed=7))", name="inner")
    up = await upstream(echo)
    running = await proxy(up.url, outer + broken + inner)
    answer = await ask_chat(running, "quiet")
    assert answer.json["choices"][0]["message"]["content"] == "QUIET"
    assert up.calls[0].json["seed"] == 7


async def test_call_next_works_again_after_an_error_of_the_upstream(proxy, upstream, tmp_path):
    async def script(call):
        if len(call.json["messages"]) > 1:
            body = b'{"error": {"code": "context_length_exceeded"}}'
            await call.answer(body, status="400 Bad Request")
        else:
            await call.chat()

    code = """
    response = await call_next(request)
    if not response.ok:
        response = await call_next(request.replace(messages=request.messages[-1:]))
    return response
    """
    up = await upstream(script)
    running = await proxy(up.url, plugin(tmp_path, code, options=CLOSED))
    messages = [{"role": "user", "content": str(n)} for n in range(3)]
    for stream in (False, True):
        answer = await ask(running, request(chat_body(messages=messages, stream=stream)))
        assert answer.status == 200


async def test_on_finish_is_called_once_for_each_plugin_however_the_exchange_ends(
    proxy, upstream, tmp_path
):
    async def script(call):
        if call.json["messages"][0]["content"] == "break":
            await call.start_stream()
            call.writer.close()
        else:
            await call.chat()

    code = """
    class It(Plugin):
        async def handle(self, request, call_next):
            response = await call_next(request)
            response.on_finish(self.settle)
            return response

        async def settle(self, outcome):
            told.append((outcome.status, outcome.error and outcome.error.code))
    """
    toml = plugin(tmp_path, code, name="one") + plugin(tmp_path, code, name="two")
    running = await proxy((await upstream(script)).url, f"{UNCOUNTED}\n{toml}")
    for text, stream in (("a", False), ("b", True), ("break", True)):
        await ask_chat(running, text, stream=stream)
        await running.turns()
    assert told == [("completed", None)] * 4 + [("failed", "upstream_truncated")] * 2


@pytest.mark.parametrize(
    "failure", ["raise ValueError", "await asyncio.sleep(60)", "raise Panic", "raise SystemExit"]
)
async def test_an_on_finish_that_fails_keeps_no_other_from_its_turn(
    proxy, upstream, tmp_path, monkeypatch, failure
):
    monkeypatch.setattr("proxy.settlement.CALLBACK_SECONDS", 0.1)
    bad = f"""
    async def settle(outcome):
        class Panic(BaseException): pass
        {failure}
    response = await call_next(request)
    response.on_finish(settle)
    return response
    """
    good = """
    async def settle(outcome):
        told.append(outcome.status)
    response = await call_next(request)
    response.on_finish(settle)
    return response
    """
    toml = (
        plugin(tmp_path, good, name="outer")
        + plugin(tmp_path, bad)
        + plugin(tmp_path, good, name="inner")
    )
    running = await proxy((await upstream()).url, toml)
    assert (await ask_chat(running)).status == 200
    await running.turns()
    assert told == ["completed"] * 2
