"""What the chain promises of streams, of checks beside the call, and of shadows."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import ContentRejected, PluginUnavailable, UpstreamUnreachable
from proxy.plugin import alongside, answer
from tests.support.chain import CLOSED, OPEN, chain, echo, hangs, raises, streaming, text_of
from tests.support.requests import chat_request

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
