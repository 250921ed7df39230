"""The text and the lease of a session: in this process and on Redis, step for step the same."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.sessions.log import LEASE, Edit, Place, PlainLog
from plugins.sessions.scripts import SharedLog
from tests.support.redis import BINARIES, running
from tests.support.stores import store_at

PLACE = Place("{a}:text", "{a}:lease")
TTL = 60.0


@asynccontextmanager
async def logs(binary=None):
    """Both, and the server of the second."""
    async with (
        running(binary=binary) as server,
        store_at(server.url) as shared,
        store_at("memory://") as plain,
    ):
        yield PlainLog(plain, TTL), SharedLog(shared, TTL), server


def appending(text, more):
    return Edit(len(text), b"", 0, len(text), more)


tokens = st.sampled_from(["one", "two"])
texts = st.sampled_from([b"", b"long" * 9_000]) | st.binary(max_size=6).map(
    lambda data: data.hex().encode()
)
numbers = st.integers(0, 30) | st.sampled_from([36_000, 72_000])
operations = st.one_of(
    st.tuples(st.just("enter"), tokens),
    st.tuples(st.just("release"), tokens),
    st.tuples(st.just("renew"), tokens),
    st.tuples(st.just("append"), tokens, texts),
    st.tuples(st.just("leave"), tokens, st.builds(Edit, numbers, texts, numbers, numbers, texts)),
)


@pytest.mark.parametrize("binary", BINARIES)
def test_both_do_the_same_whatever_is_asked_of_them(binary):
    runner = asyncio.Runner()
    context = logs(BINARIES[binary])
    plain, shared, server = runner.run(context.__aenter__())

    async def play(steps):
        await server.client.flushall()
        fresh = PlainLog(type(plain._store)(1_000_000), TTL)
        length = 0
        for kind, token, *given_ in steps:
            found = []
            for log in (fresh, shared):
                if kind == "append":
                    edit = Edit(length, b"", 0, length, given_[0])
                    found.append(await log.leave(PLACE, token, edit))
                elif kind == "leave":
                    edit = given_[0]
                    stop = min(edit.stop, edit.expected)
                    edit = Edit(edit.expected, edit.head, min(edit.start, stop), stop, edit.tail)
                    found.append(await log.leave(PLACE, token, edit))
                else:
                    found.append(await getattr(log, kind)(PLACE, token))
            assert found[0] == found[1], kind
            kept = await fresh._store.get(PLACE.text)
            assert kept == await server.client.get("{a}:text")
            assert (await fresh._store.get(PLACE.lease)) == await server.client.get("{a}:lease")
            length = len(kept or b"")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(operations, max_size=14))
    def same(steps):
        runner.run(play(steps))

    try:
        same()
    finally:
        runner.run(context.__aexit__(None, None, None))
        runner.close()


async def test_a_session_is_given_to_one_at_a_time():
    async with logs() as (*both, _):
        for log in both:
            assert await log.enter(PLACE, "one") == b""
            assert await log.enter(PLACE, "two") is None
            assert not await log.leave(PLACE, "two", appending(b"", b"no\n"))
            assert await log.leave(PLACE, "one", appending(b"", b"yes\n"))
            assert await log.enter(PLACE, "two") == b"yes\n"


async def test_what_was_written_may_be_asked_for_again_and_is_not_doubled():
    async with logs() as (*both, _):
        for log in both:
            await log.enter(PLACE, "one")
            for _ in range(3):
                assert await log.leave(PLACE, "one", appending(b"", b"yes\n"))
            assert await log.enter(PLACE, "two") == b"yes\n"


async def test_nothing_is_written_to_a_text_that_is_not_the_one_that_was_read():
    async with logs() as (plain, shared, _):
        for log in (plain, shared):
            await log.enter(PLACE, "one")
            await log.leave(PLACE, "one", appending(b"", b"12345"))
            await log.enter(PLACE, "two")
            await log._store.delete(PLACE.text)
            assert not await log.leave(PLACE, "two", appending(b"12345", b"6"))
            assert await log.enter(PLACE, "three") == b"", "and the session is free"


async def test_sessions_live_on_while_they_are_used_and_leases_while_they_are_renewed():
    async with logs() as (_, shared, server):
        ttl = server.client.pttl
        await shared.enter(PLACE, "one")
        assert 0 < await ttl(PLACE.lease) <= LEASE * 1000
        await server.client.pexpire(PLACE.lease, 1_000)
        await shared.renew(PLACE, "two")
        assert await ttl(PLACE.lease) <= 1_000
        await shared.renew(PLACE, "one")
        assert await ttl(PLACE.lease) > 20_000
        await shared.leave(PLACE, "one", appending(b"", b"yes\n"))
        for _ in range(2):
            assert 50_000 < await ttl(PLACE.text) <= TTL * 1000
            await server.client.pexpire(PLACE.text, 1_000)
            await shared.enter(PLACE, "one")
