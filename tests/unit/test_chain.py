"""What the chain promises about each plugin."""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.chain import build
from proxy.errors import APIError, ContentRejected, PluginUnavailable, UpstreamUnreachable
from proxy.exchange import note
from proxy.layer import Layer
from proxy.plugin import answer
from proxy.response import FullResponse, StreamResponse
from proxy.usage import Usage
from tests.support.chain import (
    CLOSED,
    OPEN,
    Panic,
    chain,
    count,
    echo,
    hangs,
    plugin,
    raises,
    streaming,
)
from tests.support.requests import chat_request

# ---- order, changes, answers, refusals


async def test_the_first_plugin_is_the_outermost():
    seen = []

    def noting(name):
        async def handle(request, call_next):
            seen.append(f"{name} in")
            response = await call_next(request)
            seen.append(f"{name} out")
            return response

        return handle

    await chain(noting("a"), noting("b"), upstream=echo)(chat_request())
    assert seen == ["a in", "b in", "b out", "a out"]


async def test_a_changed_request_goes_on_and_the_original_stays():
    async def warm(request, call_next):
        return await call_next(request.replace(temperature=2))

    request = chat_request(temperature=1)
    response = await chain(warm, upstream=echo)(request)
    assert response.body["temperature"] == 2
    assert request.body["temperature"] == 1
    mark = request.exchange.marks[0]
    assert mark.outcome == "modify"
    assert mark.attributes["dragoman.plugin.changed"] == ["temperature"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_local_answer_has_the_form_that_was_asked_for_and_its_usage_is_counted(stream):
    async def answers(request, call_next):
        return answer(request, "We open at nine.")

    request = chat_request(stream=stream)
    response = await chain(answers, upstream=echo)(request)
    assert isinstance(response, StreamResponse if stream else FullResponse)
    assert request.exchange.facts.usage == Usage(1, 16)
    assert request.exchange.source == "p0"
    assert request.exchange.marks[0].outcome == "respond"


@pytest.mark.parametrize("on_error", [OPEN, CLOSED])
async def test_a_refusal_that_a_plugin_means_always_passes(on_error):
    async def refuses(request, call_next):
        raise ContentRejected("no", param="messages")

    request = chat_request()
    with pytest.raises(ContentRejected):
        await chain(refuses, upstream=echo, on_error=on_error)(request)
    assert request.exchange.marks[0].outcome == "reject"


async def test_a_plugin_that_does_not_match_is_not_called():
    async def never(request, call_next):
        raise AssertionError

    call = build([Layer(plugin(never), "p", matches=lambda r: False)], echo, count)
    assert (await call(chat_request())).ok


async def test_a_note_lands_on_the_plugin_that_wrote_it():
    async def outer(request, call_next):
        response = await call_next(request)
        note(cache_hit=False)
        return response

    async def inner(request, call_next):
        note(cache_hit=True)
        return await call_next(request)

    request = chat_request()
    await chain(outer, inner, upstream=echo)(request)
    assert [m.attributes["dragoman.cache.hit"] for m in request.exchange.marks] == [False, True]


# ---- failures


async def panics(request, call_next):
    raise Panic


async def returns_nothing(request, call_next):
    return None


async def passes_on_nothing(request, call_next):
    return await call_next(None)


BEFORE = [raises, panics, hangs, returns_nothing, passes_on_nothing]


@pytest.mark.parametrize("handle", BEFORE)
async def test_open_goes_on_with_the_unchanged_request(handle):
    request = chat_request(temperature=1)
    response = await chain(handle, upstream=echo, on_error=OPEN, timeout=0.02)(request)
    assert response.data == request.received.data
    assert request.exchange.marks[0].outcome == "error"
    assert request.exchange.marks[0].attributes["dragoman.plugin.on_error"] == "open"


@pytest.mark.parametrize("handle", BEFORE)
async def test_closed_answers_that_the_plugin_is_unavailable(handle):
    with pytest.raises(PluginUnavailable, match="p0"):
        await chain(handle, upstream=echo, on_error=CLOSED, timeout=0.02)(chat_request())


def after(failure):
    async def handle(request, call_next):
        await call_next(request)
        return await failure(request, call_next)

    return handle


@pytest.mark.parametrize("failure", [raises, panics, hangs, returns_nothing])
async def test_open_keeps_an_answer_that_is_there_already(failure):
    calls = []

    async def upstream(request):
        calls.append(request)
        return await echo(request)

    response = await chain(after(failure), upstream=upstream, on_error=OPEN, timeout=0.02)(
        chat_request()
    )
    assert response.ok
    assert len(calls) == 1


@pytest.mark.parametrize("failure", [raises, panics, hangs, returns_nothing])
async def test_closed_drops_an_answer_and_closes_its_stream(failure):
    log = []
    with pytest.raises(PluginUnavailable):
        await chain(
            after(failure), upstream=streaming("a", log=log), on_error=CLOSED, timeout=0.02
        )(chat_request(stream=True))
    assert log == ["closed"]


async def test_a_failure_from_further_in_is_not_blamed_on_the_plugins_around_it():
    async def passes(request, call_next):
        return await call_next(request)

    async def upstream(request):
        raise UpstreamUnreachable("gone")

    request = chat_request()
    with pytest.raises(UpstreamUnreachable):
        await chain(passes, passes, upstream=upstream, on_error=OPEN)(request)
    assert [mark.outcome for mark in request.exchange.marks] == ["pass", "pass"]


async def test_a_failure_is_logged_with_the_name_and_once_with_a_traceback(caplog):
    class Rare(Exception):
        pass

    async def fails(request, call_next):
        raise Rare

    call = chain(fails, upstream=echo, on_error=OPEN)
    with caplog.at_level(logging.ERROR, logger="dragoman.chain"):
        await call(chat_request())
        await call(chat_request())
    assert [bool(r.exc_info) for r in caplog.records] == [True, False]
    assert all("p0" in r.getMessage() for r in caplog.records)


async def test_cancellation_passes_through_and_closes_what_was_open():
    log = []
    started = asyncio.Event()

    async def waits(request, call_next):
        await call_next(request)
        started.set()
        await asyncio.sleep(60)

    call = chain(waits, upstream=streaming("a", log=log), timeout=None)
    task = asyncio.get_running_loop().create_task(call(chat_request(stream=True)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["closed"]


# ---- call_next


async def test_call_next_works_once():
    async def twice(request, call_next):
        await call_next(request)
        return await call_next(request)

    with pytest.raises(PluginUnavailable):
        await chain(twice, upstream=echo)(chat_request())


async def test_call_next_works_again_after_it_raised():
    calls = []

    async def upstream(request):
        calls.append(request)
        if len(calls) == 1:
            raise UpstreamUnreachable("gone")
        return await echo(request)

    async def tries_again(request, call_next):
        try:
            return await call_next(request)
        except APIError:
            return await call_next(request.replace(temperature=0))

    response = await chain(tries_again, upstream=upstream)(chat_request())
    assert response.body["temperature"] == 0


async def test_call_next_works_again_after_an_error_of_the_upstream_which_is_discarded():
    closed = []

    class Refusal(FullResponse):
        __slots__ = ()

        async def close(self):
            closed.append(self)

    async def upstream(request):
        if "temperature" not in request.body:
            return Refusal(request.exchange, b"{}", status=400, source="upstream")
        return await echo(request)

    async def rescues(request, call_next):
        response = await call_next(request)
        return response if response.ok else await call_next(request.replace(temperature=0))

    assert (await chain(rescues, upstream=upstream)(chat_request())).ok
    assert len(closed) == 1


async def test_only_a_plugins_own_time_counts():
    async def slow(request):
        await asyncio.sleep(0.3)
        return await echo(request)

    async def quick(request, call_next):
        await asyncio.sleep(0.02)
        response = await call_next(request)
        await asyncio.sleep(0.02)
        return response

    request = chat_request()
    response = await chain(quick, upstream=slow, timeout=0.15, on_error=CLOSED)(request)
    assert response.ok
    assert 0.03 < request.exchange.marks[0].own_seconds < 0.2


async def test_own_time_adds_up_before_and_after():
    async def slow_twice(request, call_next):
        await asyncio.sleep(0.08)
        response = await call_next(request)
        await asyncio.sleep(0.08)
        return response

    with pytest.raises(PluginUnavailable):
        await chain(slow_twice, upstream=echo, timeout=0.12, on_error=CLOSED)(chat_request())
