"""What the chain promises about each plugin."""

from __future__ import annotations

import asyncio
import logging

import pytest

from proxy.answer import LocalEvents
from proxy.chain import build
from proxy.errors import APIError, ContentRejected, PluginUnavailable, UpstreamUnreachable
from proxy.exchange import note
from proxy.layer import Layer
from proxy.plugin import Plugin, alongside, answer
from proxy.response import FullResponse, StreamResponse
from proxy.usage import Usage
from proxy.wire import Chunk
from tests.support.requests import chat_request

OPEN, CLOSED = "open", "closed"


class Panic(BaseException):
    """As pyo3's: no Exception."""


async def count(request, text):
    return Usage(len(request.messages), len(text))


def plugin(handle):
    """A plugin class around a handle function."""
    return type("Made", (Plugin,), {"handle": lambda self, *args: handle(*args)})(None, None)


def chain(*handles, upstream, **keys):
    layers = [Layer(plugin(h), f"p{i}", **keys) for i, h in enumerate(handles)]
    return build(layers, upstream, count)


async def echo(request):
    """An upstream that tells what it was asked."""
    return FullResponse(request.exchange, request.data(), source="upstream")


def streaming(*texts, log=None, fail=None):
    """An upstream that streams these texts; its stream notes that it was closed."""

    class Events(LocalEvents):
        async def close(self):
            if log is not None:
                log.append("closed")

        async def read(self):
            if fail is not None and not self.chunks:
                raise fail
            return await super().read()

    async def upstream(request):
        chunks = [{"choices": [{"index": 0, "delta": {"content": t}}]} for t in texts]
        return StreamResponse(request.exchange, Events(chunks), source="upstream")

    return upstream


async def text_of(response):
    """The text that a client would read off a stream."""
    out = []

    async def write(data):
        out.append(data)

    await response.send(write)
    events = b"".join(out).split(b"\n\n")
    chunks = [Chunk(event + b"\n\n") for event in events if event not in (b"", b"data: [DONE]")]
    return "".join(c.texts().get(0, "") for c in chunks)


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


async def raises(request, call_next):
    raise ZeroDivisionError


async def panics(request, call_next):
    raise Panic


async def hangs(request, call_next):
    await asyncio.sleep(60)


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


# ---- streams


def shouting(chunks):
    async def shout(chunks):
        async for chunk in chunks:
            yield chunk.map_text(str.upper)

    return shout(chunks)


async def shouts(request, call_next):
    return (await call_next(request)).map_chunks(shouting)


async def shouts_in_text(request, call_next):
    return (await call_next(request)).map_text(str.upper)


async def test_a_stream_goes_through_every_plugin_from_the_inside_out():
    async def adds(request, call_next):
        return (await call_next(request)).map_text(lambda text: f"{text}!")

    response = await chain(shouts, adds, upstream=streaming("a", "b"))(chat_request(stream=True))
    assert await text_of(response) == "A!B!"


async def test_leaving_a_stream_closes_it_at_once_through_six_plugins():
    log = []
    response = await chain(*[shouts] * 6, upstream=streaming("a", "b", log=log))(
        chat_request(stream=True)
    )
    chunks = response.chunks
    await anext(chunks)
    await chunks.aclose()
    await response.close()
    assert log == ["closed"]


def failing_after(passed):
    async def fails(chunks):
        async for chunk in chunks:
            if not passed:
                raise ZeroDivisionError
            passed.pop()
            yield chunk.map_text(str.upper)

    async def handle(request, call_next):
        return (await call_next(request)).map_chunks(fails)

    return handle


async def test_a_plugin_that_fails_inside_a_stream_loses_no_chunk_if_it_is_open():
    call = chain(failing_after([1, 2]), upstream=streaming("a", "b", "c", "d"), on_error=OPEN)
    request = chat_request(stream=True)
    assert await text_of(await call(request)) == "ABcd"
    assert request.exchange.marks[-1].outcome == "error"


async def test_a_plugin_that_fails_inside_a_stream_ends_it_if_it_is_closed():
    call = chain(failing_after([1]), upstream=streaming("a", "b", "c"), on_error=CLOSED)
    response = await call(chat_request(stream=True))
    with pytest.raises(PluginUnavailable):
        await text_of(response)


async def test_a_break_of_the_upstream_is_not_blamed_on_a_plugin_in_its_stream():
    broken = UpstreamUnreachable("gone")
    call = chain(shouts, upstream=streaming(fail=broken), on_error=OPEN)
    request = chat_request(stream=True)
    response = await call(request)
    with pytest.raises(UpstreamUnreachable):
        await text_of(response)
    assert request.exchange.marks[-1].outcome == "modify"


async def test_a_stream_that_a_plugin_replaces_is_closed():
    log = []

    async def replaces(request, call_next):
        await call_next(request)
        return answer(request, "mine")

    request = chat_request(stream=True)
    response = await chain(replaces, upstream=streaming("a", log=log))(request)
    assert log == ["closed"]
    assert await text_of(response) == "mine"


# ---- checks beside the call


async def test_a_check_that_raises_cancels_the_call_beside_it():
    cancelled = asyncio.Event()

    async def upstream(request):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def moderates(request, call_next):
        async def check():
            await asyncio.sleep(0.01)
            raise ContentRejected("flagged")

        return await alongside(check(), call_next(request))

    with pytest.raises(ContentRejected):
        await chain(moderates, upstream=upstream, on_error=OPEN)(chat_request())
    assert cancelled.is_set()


async def test_an_answer_that_came_before_the_verdict_is_closed_if_the_check_raises():
    log = []

    async def moderates(request, call_next):
        async def check():
            await asyncio.sleep(0.05)
            raise ContentRejected("flagged")

        return await alongside(check(), call_next(request))

    with pytest.raises(ContentRejected):
        await chain(moderates, upstream=streaming("a", log=log))(chat_request(stream=True))
    assert set(log) == {"closed"}  # closing twice does no harm


# ---- shadow


@pytest.mark.parametrize(
    ("handle", "outcome"),
    [(shouts_in_text, "pass"), (raises, "error"), (hangs, "error")],
)
async def test_a_shadow_changes_nothing(handle, outcome):
    request = chat_request()
    response = await chain(handle, upstream=echo, shadow=True, timeout=0.05)(request)
    assert response.data == request.received.data
    await asyncio.wait(request.exchange.rehearsals)
    (mark,) = [m for m in request.exchange.marks if m.phase == "request"]
    assert mark.outcome == outcome
    assert mark.attributes["dragoman.plugin.mode"] == "shadow"


async def test_a_shadow_is_told_what_it_would_have_done():
    async def refuses(request, call_next):
        raise ContentRejected("no")

    async def warms(request, call_next):
        return await call_next(request.replace(temperature=2))

    async def answers(request, call_next):
        return answer(request, "mine")

    request = chat_request()
    response = await chain(refuses, warms, answers, upstream=echo, shadow=True)(request)
    assert response.data == request.received.data
    assert request.exchange.source == "upstream"
    await asyncio.wait(request.exchange.rehearsals)
    assert {m.outcome for m in request.exchange.marks} == {"reject", "modify", "respond"}


async def test_a_shadow_that_takes_its_time_does_not_hold_up_the_answer():
    request = chat_request()
    async with asyncio.timeout(0.5):
        await chain(hangs, upstream=echo, shadow=True, timeout=None)(request)
    for task in request.exchange.rehearsals:
        task.cancel()
    await asyncio.wait(request.exchange.rehearsals)
