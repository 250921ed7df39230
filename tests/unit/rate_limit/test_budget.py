"""Budgets: what is counted, in whose days, and what survives."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import openai
import pytest

from plugins.budget import SpendingLimit
from plugins.budget.ledger import Entry, Ledger
from plugins.budget.periods import period_at
from proxy.testing import plugin_test
from tests.support.configs import UPSTREAM, problems
from tests.support.proxy import start_proxy
from tests.support.raw import ask_chat, metric
from tests.support.redis import running, until
from tests.support.stores import store_at

TABLE = '[[plugins]]\nuse = "budget"\n'
TOKENS = '[[plugins.budgets]]\nname = "b"\ntokens = {}\nperiod = "{}"\n'
MONEY = '[[plugins.budgets]]\nname = "b"\nusd = {}\n'
PRICE = '[[plugins.prices]]\nmodels = ["gpt*"]\ninput = {}\noutput = {}\n'


async def spent(proxy, statuses, **fields):
    """Ask until the answer is refused; all statuses."""
    async with asyncio.timeout(5):
        while not statuses or statuses[-1] == 200:
            statuses.append((await ask_chat(proxy, **fields)).status)
            await asyncio.sleep(0.02)
    return statuses


# ---- periods


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("now", "kind", "name", "hours"),
    [
        (at("2026-11-22T18:00"), "day", "2026-11-22", 6),
        (at("2026-11-22T00:00", "Asia/Shanghai"), "day", "2026-11-22", 24),
        (at("2026-03-29T00:00", "Europe/Berlin"), "day", "2026-03-29", 23),
        (at("2026-10-25T00:00", "Europe/Berlin"), "day", "2026-10-25", 25),
        (at("2026-12-31T00:00"), "month", "2026-12", 24),
        (at("2028-02-28T00:00"), "month", "2028-02", 48),
    ],
)
def test_a_period_is_that_of_the_zone_and_ends_with_it(now, kind, name, hours):
    assert period_at(now, kind) == (name, hours * 3_600)


def test_all_time_does_not_end():
    assert period_at(at("2026-11-22T18:00"), "total") == ("total", None)


# ---- what is counted


async def test_who_has_spent_his_tokens_is_refused_as_openai_does(proxy, upstream):
    up = await upstream(lambda call: call.chat("hello", (60, 40)))
    running_ = await proxy(up.url, TABLE + TOKENS.format(250, "total"))
    assert await spent(running_, []) == [200] * 3 + [429]
    answer = await ask_chat(running_)
    assert (answer.code, answer.header("x-should-retry")) == ("insufficient_quota", "false")
    assert answer.json["error"]["type"] == "insufficient_quota"
    assert "the budget b, 250 tokens, is spent" in answer.json["error"]["message"]
    assert await metric(running_, "dragoman_budget_refused_total") == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_money_is_counted_by_ones_own_prices(proxy, upstream, stream):
    up = await upstream(lambda call: call.chat("hello", (1_000, 500)))
    toml = TABLE + MONEY.format("0.01") + PRICE.format(1, 4)  # 0.003 each
    assert await spent(await proxy(up.url, toml), [], stream=stream) == [200] * 4 + [429]


async def test_money_is_counted_by_known_prices_and_others_are_free(proxy, upstream):
    up = await upstream(lambda call: call.chat("hello", (1_000_000, 0)))
    running_ = await proxy(up.url, TABLE + MONEY.format("0.25"))  # gpt-4o-mini: 0.15
    assert await spent(running_, []) == [200] * 2 + [429]
    other = await proxy(up.url, TABLE + MONEY.format("0.25"))
    for _ in range(3):
        assert (await ask_chat(other, model="nobody-knows")).status == 200
    assert await metric(other, "dragoman_budget_unpriced_total") >= 2


async def test_answers_say_that_a_budget_is_nearly_spent(proxy, upstream):
    up = await upstream(lambda call: call.chat("hello", (60, 40)))
    running_ = await proxy(up.url, TABLE + TOKENS.format(250, "day") + "soft = 0.5\n")
    told = []
    for _ in range(3):
        told.append((await ask_chat(running_)).header("x-dragoman-budget"))
        await asyncio.sleep(0.1)
    assert told == [None, None, "b;spent=0.80"]
    assert await metric(running_, "dragoman_budget_warned_total") == 1


async def test_a_new_day_has_a_new_budget_at_the_callers_midnight():
    options = 'timezone = "Asia/Shanghai"\n' + TOKENS.format(5, "day")
    plugins = []

    class Watched(SpendingLimit):
        def __init__(self, config, services):
            super().__init__(config, services)
            self.time = datetime(2026, 11, 22, 15, 59, tzinfo=ZoneInfo("UTC"))
            self.now = self.time.astimezone
            plugins.append(self)

    async with plugin_test(Watched, options, reply="hello") as test:
        await test.ask("Hi")
        await test.turn()
        with pytest.raises(openai.RateLimitError):
            await test.ask("Hi")
        plugins[0].now = (plugins[0].time + timedelta(minutes=1)).astimezone
        await test.ask("Hi")


async def test_what_a_plugin_answers_is_free(tmp_path):
    (tmp_path / "faq.py").write_text(
        "from proxy.plugin import Plugin, answer\n"
        "class Faq(Plugin):\n"
        "    async def handle(self, request, call_next):\n"
        '        return answer(request, "word " * 300)\n'
    )
    table = TABLE + TOKENS.format(5, "day") + '[[plugins]]\nuse = "./faq.py:Faq"\n'
    async with plugin_test(table, folder=tmp_path) as test:
        for _ in range(3):
            assert await test.ask("Hi")
            await test.turn()


# ---- Redis


async def test_all_processes_share_a_budget_and_it_survives_their_restart(upstream, tmp_path):
    up = await upstream(lambda call: call.chat("hello", (60, 40)))
    async with running() as redis:
        toml = f'store.url = "{redis.url}"\nstore.secret = "{"s" * 20}"\n' + TABLE
        for expected in ([200, 200], [200, 429]):
            started = [
                await start_proxy(tmp_path, up.url, toml + TOKENS.format(250, "month"))
                for _ in range(2)
            ]
            found = []
            for each in started:
                found.append((await ask_chat(each)).status)
                await asyncio.sleep(0.1)
            for each in started:
                await each.stop()
            assert found == expected
        (key,) = [k for k in await redis.client.keys("*:b:2*") if await redis.client.get(k)]
        assert await redis.client.get(key) == b"300"
        assert 86_400 < await redis.client.ttl(key) < 33 * 86_400


async def test_what_is_spent_while_redis_is_gone_is_written_once_when_it_is_back():
    async with running() as redis, store_at(redis.url, timeout=0.1) as store:
        ledger = Ledger(store)
        await ledger.add([Entry("a", 10, 0)])
        redis.freeze()
        for _ in range(4):
            await ledger.add([Entry("a", 10, 0)])
        assert await ledger.spent(["a"]) == [50]
        redis.thaw()
        async with asyncio.timeout(5):
            while await redis.client.get("a") != b"60":
                await asyncio.sleep(0.2)
                await ledger.write()
                if await redis.client.get("a") == b"50":
                    await ledger.add([Entry("a", 10, 0)])
        assert await ledger.spent(["a", "b"]) == [60, 0]


async def test_what_ends_at_once_is_written_together_and_exactly():
    async with running() as redis, store_at(redis.url, timeout=3) as store:
        ledger = Ledger(store)
        entries = [Entry("{a}:day", 3, 60), Entry("{a}:month", 5, 0), Entry("{}:all", 7, 0)]
        await ledger.add(entries)
        await redis.client.config_resetstat()
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(ledger.add(entries))
        assert await redis.client.mget("{a}:day", "{a}:month", "{}:all") == [
            b"603",
            b"1005",
            b"1407",
        ]
        calls = (await redis.client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert calls < 20
        assert 0 < await redis.client.ttl("{a}:day") <= 60
        assert await redis.client.ttl("{a}:month") == -1


async def test_nothing_is_lost_or_counted_twice_by_a_redis_that_freezes_again_and_again():
    async with running() as redis, store_at(redis.url, timeout=0.1) as store:
        ledger = Ledger(store)

        async def use(caller):
            for _ in range(60):
                await ledger.add([Entry(f"{{{caller}}}:x", 1, 0), Entry("{}:x", 1, 0)])
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            for caller in "abcde":
                group.create_task(use(caller))
            for _ in range(3):
                await asyncio.sleep(0.15)
                redis.freeze()
                await asyncio.sleep(0.15)
                redis.thaw()
        keys = [f"{{{caller}}}:x" for caller in "abcde"]

        async def is_written():
            await ledger.add([Entry("{other}:x", 1, 0)])  # whoever comes looks after the others
            return await redis.client.get("{}:x") == b"300"

        await until(is_written)
        assert await redis.client.mget(keys) == [b"60"] * 5
        assert await ledger.spent(keys) == [60] * 5


async def test_an_upstream_that_reports_absurd_numbers_stops_no_counter(upstream, tmp_path):
    usages = [(1 << 52, 1 << 52)] * 3 + [(1, 0)]
    up = await upstream(lambda call: call.chat("hello", usages.pop(0)))
    async with running() as redis:
        toml = f'store.url = "{redis.url}"\nstore.secret = "{"s" * 20}"\n' + TABLE
        proxy = await start_proxy(tmp_path, up.url, toml + MONEY.format("1e9") + PRICE.format(9, 9))
        for _ in range(4):
            assert (await ask_chat(proxy, model="gpt-4o")).status == 200
        await proxy.stop()
        (key,) = [k for k in await redis.client.keys("*:b:2*") if b":by:" not in k]
        assert await redis.client.get(key) == b"3000000000009000"
        (days,) = await redis.client.keys("*usage:*")
        requests = [v for k, v in (await redis.client.hgetall(days)).items() if b"requests" in k]
        assert requests == [b"4"]


# ---- options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("keep_usage = 0\n", "there is no budget, and no usage is kept"),
        ('[[plugins.budgets]]\nname = "x"\n', "the budget x should have either usd or tokens"),
        (TOKENS.format(1, "day") + "usd = 1\n", "either usd or tokens"),
        (TOKENS.format(1, "day") * 2, "two budgets have the same name"),
        ('timezone = "Mars"\n' + TOKENS.format(1, "day"), "there is no time zone 'Mars'"),
    ],
)
def test_mistakes_are_said_at_start(options, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert any(problem in said for said in problems(UPSTREAM + TABLE + options))
