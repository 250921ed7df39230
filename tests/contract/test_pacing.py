"""`[upstream] pace`: requests wait for their turn, and the upstream never sees more than it takes."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import openai
import pytest

from proxy.callers import fingerprint
from tests.support.proxy import start_proxy
from tests.support.raw import Client, ask, ask_chat, chat_body, metric, request
from tests.support.redis import until
from tests.support.upstream import completion, head

OURS = 'upstream.api_key = "sk-ours"\nupstream.pace.requests = {}\n'
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{fingerprint(f"dgm-{name}")}"\n'
    for name in ("ann", "bob")
)
THEIRS = b'{"error": {"message": "No.", "type": "requests", "param": null, "code": "theirs"}}'


class Watched:
    """An upstream that notes when each request came, and answers as it is told."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.texts: list[str] = []
        self.answers: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        """Status and headers of the next answers; then all is well."""

    async def __call__(self, call):
        self.times.append(time.monotonic())
        if call.method == "POST":
            self.texts.append(call.json["messages"][-1]["content"])
        status, headers = self.answers.pop(0) if self.answers else ("200 OK", ())
        body = completion("hello") if status.startswith("200") else THEIRS
        await call.answer(body, status=status, headers=headers)

    def keeps(self, rate, burst, begun):
        """Never were there more than so many at once, and so many in each second since.

        Times are those at which requests came, later than they were let through: nothing is taken
        for early because the machine is slow.
        """
        came = [when - begun + 0.01 for when in self.times if when > begun]  # clocks differ
        return all(number <= burst + rate * at for number, at in enumerate(came, 1))


def pace(requests, period, **options):
    lines = [f"upstream.pace.{name} = {value!r}\n" for name, value in options.items()]
    return OURS.format(requests) + f'upstream.pace.period = "{period}"\n' + "".join(lines)


def chat(text="Hi", key="sk-test", **fields):
    return request(chat_body(text, **fields), ("Authorization", f"Bearer {key}"))


async def all_of(*asked):
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(each) for each in asked]
    return [each.result() for each in made]


async def paced(proxy, outcome):
    """How many requests waited, or did not have to, and came out like this."""
    registry = proxy.server._telemetry.metrics.registry
    name = "dragoman_upstream_paced_seconds_count"
    return registry.get_sample_value(name, {"outcome": outcome}) or 0


# ---- one process


async def test_requests_go_one_by_one_and_chats_and_other_calls_share_the_line(proxy, upstream):
    watched = Watched()
    running_ = await proxy((await upstream(watched)).url, pace(10, "1 s", burst="0 s"))
    models = request(method="GET", target="/v1/models")
    begun = time.monotonic()
    asked = [ask(running_, chat()) if n % 2 else ask(running_, models) for n in range(14)]
    answers = await all_of(*asked)
    assert [answer.status for answer in answers] == [200] * 14
    assert watched.keeps(10, 1, begun)
    assert await paced(running_, "sent") == 14


async def test_what_accrued_may_go_at_once_and_no_more(proxy, upstream):
    toml = pace(5, "100 s", burst="60 s", max_wait="1 s")  # one in 20 s, three at once
    running_ = await proxy((await upstream(Watched())).url, toml)
    answers = await all_of(*(ask_chat(running_) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 2


async def come_in_order(proxy, watched):
    """Ten requests, each when the one before it is in the line."""
    tasks = []
    for number in range(10):
        tasks.append(asyncio.create_task(ask_chat(proxy, f"{number}")))
        while await metric(proxy, "http_server_active_requests") + len(watched.times) <= number:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    assert watched.texts == [f"{number}" for number in range(10)]


async def test_who_came_first_is_served_first(proxy, upstream):
    watched = Watched()
    running_ = await proxy((await upstream(watched)).url, pace(10, "1 s", burst="0 s"))
    await come_in_order(running_, watched)


async def test_who_leaves_the_line_gives_his_place_back(proxy, upstream):
    watched = Watched()
    running_ = await proxy((await upstream(watched)).url, pace(1, "1 s", burst="0 s"))
    assert (await ask_chat(running_, "first")).status == 200
    for number in range(8):
        async with await Client.open(running_.server.port) as client:
            await client.send(chat(f"gone {number}"))
            await asyncio.sleep(0.02)
            client.leave()
    await until(lambda: _is(running_, "left", 8))
    begun = time.monotonic()
    assert (await ask_chat(running_, "last")).status == 200
    assert time.monotonic() - begun < 5  # not after the eight seconds of the others
    assert watched.texts[0] == "first"
    assert len(watched.texts) < 6


async def _is(proxy, outcome, number):
    return await paced(proxy, outcome) == number


async def test_who_would_wait_too_long_is_told_how_long_the_line_is(proxy, upstream):
    watched = Watched()
    toml = pace(2, "1 s", burst="0 s", max_wait="1.2 s")
    running_ = await proxy((await upstream(watched)).url, toml)
    answers = await all_of(*(ask_chat(running_) for _ in range(12)))
    refused = [answer for answer in answers if answer.status != 200]
    assert len(watched.times) == 12 - len(refused) < 12
    for answer in refused:
        assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
        assert answer.json["error"]["type"] == "requests"
        assert 1 <= int(answer.header("retry-after") or 0) <= 6
        assert int(answer.header("retry-after-ms") or 0) >= 1_000
    turns = await running_.turns(12)
    assert sum(turn["termination"] == "rate_limit_exceeded" for turn in turns) == len(refused)


async def test_openais_client_knows_the_refusal(proxy, upstream):
    running_ = await proxy((await upstream(Watched())).url, pace(1, "60 s", max_wait="1 s"))
    async with running_.client() as client:
        await client.models.list()
        with pytest.raises(openai.RateLimitError, match="are waiting for the upstream"):
            await client.models.list()


async def test_waiting_is_neither_silence_of_the_upstream_nor_time_of_ours(
    proxy, upstream, collector
):
    toml = pace(1, "1 s", burst="0 s") + (
        'upstream.first_byte_timeout = "700 ms"\nupstream.idle_timeout = "700 ms"\n'
        f'telemetry.endpoint = "{collector.url}"\n'
    )
    running_ = await proxy((await upstream(Watched())).url, toml)
    answers = await all_of(*(ask_chat(running_) for _ in range(3)))
    assert [answer.status for answer in answers] == [200] * 3
    assert all(float(answer.header("x-dragoman-overhead-ms") or 1e9) < 700 for answer in answers)
    await running_.stop()
    waits = [span.attributes.get("dragoman.upstream.paced_ms", 0) for span in collector.spans]
    assert max(waits) > 1_500


async def test_an_account_is_a_key_of_the_upstream(proxy, upstream):
    watched = Watched()
    up = await upstream(watched)
    each = await proxy(up.url, pace(1, "10 s").replace('upstream.api_key = "sk-ours"\n', ""))
    begun = time.monotonic()
    await all_of(*(ask(each, chat(key=f"sk-{name}")) for name in "abc"))
    ours = await proxy(up.url, pace(1, "10 s", max_wait="1 s") + KEYS)
    answers = await all_of(*(ask(ours, chat(key=f"dgm-{name}")) for name in ("ann", "bob")))
    assert time.monotonic() - begun < 8
    assert sorted(answer.status for answer in answers) == [200, 429]


# ---- what the upstream asks for


async def test_a_429_passes_unchanged_and_holds_the_others_back(proxy, upstream):
    watched = Watched()
    watched.answers.append(("429 Too Many Requests", (("retry-after-ms", "700"), ("X-Its", "own"))))
    running_ = await proxy((await upstream(watched)).url, pace(1_000, "1 s"))
    answer = await ask_chat(running_)
    assert (answer.status, answer.code, answer.header("x-its")) == (429, "theirs", "own")
    assert answer.header("retry-after-ms") == "700"
    answers = await all_of(
        ask_chat(running_), ask(running_, request(method="GET", target="/v1/models"))
    )
    assert [answer.status for answer in answers] == [200, 200]
    assert watched.times[1] - watched.times[0] >= 0.7


async def test_the_last_request_of_a_limit_is_followed_by_a_pause(proxy, upstream):
    watched = Watched()
    told = {"limit": "10", "remaining": "0", "reset": "5s"}
    headers = tuple((f"x-ratelimit-{name}-requests", text) for name, text in told.items())
    watched.answers.append(("200 OK", headers))
    running_ = await proxy((await upstream(watched)).url, pace(1_000, "1 s"))
    for _ in range(2):
        assert (await ask_chat(running_)).status == 200
    assert 0.5 <= watched.times[1] - watched.times[0] < 4


async def test_nobody_waits_for_an_upstream_that_asks_for_more_than_max_wait(proxy, upstream):
    watched = Watched()
    watched.answers.append(("429 Too Many Requests", (("Retry-After", "3600"),)))
    running_ = await proxy((await upstream(watched)).url, pace(100, "1 s"))
    assert (await ask_chat(running_)).code == "theirs"
    begun = time.monotonic()
    answer = await ask_chat(running_)
    assert time.monotonic() - begun < 5
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
    assert 500 < int(answer.header("retry-after") or 0) <= 600
    assert len(watched.times) == 1


async def test_who_waits_when_the_upstream_asks_for_too_much_is_told_at_once(proxy, upstream):
    watched = Watched()
    answered = asyncio.Event()

    async def script(call):
        await answered.wait()
        await watched(call)

    watched.answers.append(("429 Too Many Requests", (("Retry-After", "60"),)))
    running_ = await proxy((await upstream(script)).url, pace(1, "1 s", max_wait="20 s"))
    tasks = [asyncio.create_task(ask_chat(running_)) for _ in range(4)]
    await until(lambda: _is(running_, "sent", 1))
    begun = time.monotonic()
    answered.set()
    answers = await asyncio.gather(*tasks)
    assert time.monotonic() - begun < 8
    assert sorted(answer.code for answer in answers) == ["rate_limit_exceeded"] * 3 + ["theirs"]


async def test_without_a_pace_nothing_waits_whatever_the_upstream_asks_for(proxy, upstream):
    watched = Watched()
    watched.answers.append(("429 Too Many Requests", (("Retry-After", "60"),)))
    running_ = await proxy((await upstream(watched)).url)
    assert [(await ask_chat(running_)).status for _ in range(2)] == [429, 200]
    assert await paced(running_, "sent") == 0


async def test_the_handshake_of_a_websocket_waits_for_its_turn(proxy, upstream):
    async def script(call):
        await call.send(head("403 Forbidden", ("Content-Length", "0")))

    up = await upstream(script)
    running_ = await proxy(up.url, pace(1, "60 s", max_wait="100 ms"))
    shake = request(
        None,
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        method="GET",
        target="/v1/realtime",
    )
    assert [(await ask(running_, shake)).status for _ in range(2)] == [403, 429]
    assert len(up.calls) == 1


# ---- processes that share a Redis


@pytest.fixture
async def proxies(upstream, tmp_path):
    """Start two proxies that share a store."""
    async with AsyncExitStack() as stack:

        async def start(url, watched, options, timeout="3 s"):
            up = await upstream(watched)
            toml = f'store.url = "{url}"\nstore.timeout = "{timeout}"\n{options}'
            started = [await start_proxy(tmp_path, up.url, toml) for _ in range(2)]
            for each in started:
                stack.push_async_callback(each.stop)
            return started

        yield start


async def test_two_proxies_keep_one_pace(proxies, redis):
    watched = Watched()
    started = await proxies(redis.url, watched, pace(20, "1 s", burst="100 ms"))
    begun = time.monotonic()
    answers = await all_of(*(ask_chat(started[number % 2]) for number in range(30)))
    assert [answer.status for answer in answers] == [200] * 30
    assert watched.keeps(20, 2, begun)
    assert watched.times[-1] - watched.times[0] < 6  # and nobody sleeps for long
    assert len(await redis.client.keys("dragoman-pace:*")) == 1


async def test_of_those_who_wait_only_the_first_asks_redis(proxies, redis):
    watched = Watched()
    one, _ = await proxies(redis.url, watched, pace(10, "1 s", burst="0 s"))
    await come_in_order(one, watched)
    stats = await redis.client.info("commandstats")
    scripts = sum(each["calls"] for name, each in stats.items() if name.startswith("cmdstat_eval"))
    assert 10 <= scripts <= 35


async def test_what_one_proxy_is_told_holds_the_other_back(proxies, redis):
    watched = Watched()
    watched.answers.append(("429 Too Many Requests", (("retry-after-ms", "800"),)))
    one, two = await proxies(redis.url, watched, pace(1_000, "1 s"))
    assert (await ask_chat(one)).status == 429
    assert (await ask_chat(two)).status == 200
    assert watched.times[1] - watched.times[0] >= 0.79


async def test_those_who_leave_take_no_turns_of_the_other_proxy(proxies, redis):
    watched = Watched()
    one, two = await proxies(redis.url, watched, pace(1, "1 s", burst="0 s"))
    assert (await ask_chat(one, "first")).status == 200
    for _ in range(10):
        async with await Client.open(one.server.port) as client:
            await client.send(chat("gone"))
            await asyncio.sleep(0.01)
            client.reset()
    await until(lambda: _is(one, "left", 10))
    begun = time.monotonic()
    assert (await ask_chat(two, "last")).status == 200
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_without_redis_each_process_keeps_its_part_of_the_pace(proxies, redis, fault):
    watched = Watched()
    options = pace(20, "1 s", burst="0 s", processes=2)
    started = await proxies(redis.url, watched, options, timeout="100 ms")
    await all_of(*map(ask_chat, started))
    if fault == "frozen":
        redis.freeze()
    else:
        await redis.kill()
    begun = time.monotonic()
    answers = await all_of(*(ask_chat(started[number % 2]) for number in range(24)))
    assert [answer.status for answer in answers] == [200] * 24
    assert watched.keeps(20, 2, begun)
    if fault == "frozen":
        redis.thaw()
    else:
        await redis.start()

    async def is_back():
        await ask_chat(started[0])
        return await redis.client.keys("dragoman-pace:*")

    await until(is_back)


async def test_a_clock_of_redis_that_is_set_back_holds_nobody_up(proxies, redis):
    watched = Watched()
    started = await proxies(redis.url, watched, pace(20, "1 s", burst="0 s"))
    assert (await ask_chat(started[0])).status == 200
    (key,) = await redis.client.keys("dragoman-pace:*")
    seconds, _ = await redis.client.time()
    await redis.client.set(key, str((seconds + 3_600) * 1_000_000))
    begun = time.monotonic()
    assert (await ask_chat(started[1])).status == 200
    assert time.monotonic() - begun < 5
