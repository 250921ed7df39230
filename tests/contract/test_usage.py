"""Usage by caller, model and day: what GET /admin/usage and `dragoman usage` say of real traffic."""

from __future__ import annotations

import asyncio
import csv
import random
from collections import Counter
from contextlib import AsyncExitStack
from io import StringIO

import msgspec
import pytest

from plugins.budget import usage
from proxy.callers import fingerprint
from proxy.cli import main
from tests.support.plugins import plugin
from tests.support.proxy import start_proxy
from tests.support.raw import Client, admin, ask, chat_body, request
from tests.support.redis import cluster, running, until
from tests.support.upstream import chunks, completion, head

OURS = 'upstream.api_key = "sk-ours"\n'
BUDGET = '[[plugins]]\nuse = "budget"\n'
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{fingerprint(f"dgm-{name}")}"\n'
    for name in ("ann", "bob")
)
PRICE = '[[plugins.prices]]\nmodels = ["dear*"]\ninput = 1.25\ncached_input = 0.125\noutput = 10\n'
TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


class Tally:
    """An upstream that says what it has used, and remembers it by model."""

    def __init__(self) -> None:
        self.said: dict[str, Counter[str]] = {}
        self._random = random.Random(7)

    async def __call__(self, call):
        match call.json["messages"][-1]["content"]:
            case "refuse":
                await call.answer(b'{"error": {}}', status="404 Not Found")
            case "stop in the middle":
                await call.start_stream()
                for event in chunks("one two three", {})[:3]:
                    await call.chunk(event)
                await call.wait_closed(20)
            case _:
                await self.answer(call)

    async def answer(self, call):
        pick = self._random.randrange
        used = Counter(
            requests=1,
            prompt_tokens=pick(100, 9_000),
            cached_tokens=pick(100),
            completion_tokens=pick(50, 2_000),
            reasoning_tokens=pick(50),
        )
        self.said.setdefault(call.json["model"], Counter()).update(used)
        reported = {
            "prompt_tokens": used["prompt_tokens"],
            "completion_tokens": used["completion_tokens"],
            "total_tokens": used["prompt_tokens"] + used["completion_tokens"],
            "prompt_tokens_details": {"cached_tokens": used["cached_tokens"]},
            "completion_tokens_details": {"reasoning_tokens": used["reasoning_tokens"]},
        }
        if not call.json.get("stream"):
            body = msgspec.json.decode(completion("hello"))
            await call.answer(msgspec.json.encode({**body, "usage": reported}))
            return
        await call.send(head("200 OK", ("Content-Type", "text/event-stream")))
        last = {"choices": [], "usage": reported}
        *events, done = chunks("hello you", {})
        await call.send(*events, b"data: " + msgspec.json.encode(last) + b"\n\n", done)
        call.writer.close()

    @property
    def total(self):
        return sum(self.said.values(), Counter())


async def send(proxy, text="Hi", caller="ann", **fields):
    key = ("Authorization", f"Bearer dgm-{caller}")
    return await ask(proxy, request(chat_body(text, **fields), key))


async def told(proxy, query=""):
    answer = await admin(proxy, f"/admin/usage{query}")
    assert answer.status == 200, answer.body
    return answer.json


async def tells(proxy, requests):
    """Wait until so many requests are settled and told; the report."""

    async def enough():
        return (await told(proxy))["total"]["requests"] >= requests

    await until(enough)
    return await told(proxy)


def of(row):
    """The amounts of a row that the upstream speaks of, too."""
    return {name: row[name] for name in ("requests", *TOKENS) if row[name]}


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_usage_is_what_the_upstream_said_to_the_token(proxy, upstream, store):
    tally = Tally()
    up = await upstream(tally)
    async with running() as redis:
        url = redis.url if store == "redis" else "memory://"
        toml = OURS + f'store.url = "{url}"\nstore.timeout = "3 s"\n' + BUDGET + PRICE + KEYS
        running_ = await proxy(up.url, toml)
        for number in range(24):
            caller, model = ("ann", "bob")[number % 2], ("dear-1", "gpt-4o-mini")[number % 3 == 0]
            await send(running_, caller=caller, model=model, stream=number % 4 > 1)
        report = await tells(running_, 24)
        assert of(report["total"]) == tally.total
        assert report["total"]["estimated"] == report["total"]["unpriced"] == 0
        assert {(row["caller"], row["model"]) for row in report["rows"]} == {
            (caller, model) for caller in ("ann", "bob") for model in ("dear-1", "gpt-4o-mini")
        }
        by_model = {row["model"]: row for row in (await told(running_, "?by=model"))["rows"]}
        assert {model: of(row) for model, row in by_model.items()} == tally.said
        dear = tally.said["dear-1"]
        plain = dear["prompt_tokens"] - dear["cached_tokens"]
        paid = 1_250 * plain + 125 * dear["cached_tokens"] + 10_000 * dear["completion_tokens"]
        assert by_model["dear-1"]["usd"] == paid / 10**9
        answer = await admin(running_, "/admin/usage?by=model&format=csv")
        assert answer.header("content-type") == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(StringIO(answer.body.decode())))
        assert {row["model"]: int(row["prompt_tokens"]) for row in rows} == {
            model: used["prompt_tokens"] for model, used in tally.said.items()
        }


async def test_streams_that_clients_leave_count_as_far_as_they_got(proxy, upstream):
    running_ = await proxy((await upstream(Tally())).url, OURS + BUDGET + KEYS)
    async with await Client.open(running_.server.port) as client:
        key = ("Authorization", "Bearer dgm-bob")
        await client.send(request(chat_body("stop in the middle", stream=True), key))
        await client.reader.readuntil(b"two")
        client.leave()
        report = await tells(running_, 1)
    (turn,) = await running_.turns()
    (row,) = report["rows"]
    assert (row["caller"], row["estimated"]) == ("bob", 1)
    assert row["prompt_tokens"] == turn["prompt_tokens"] > 0
    assert row["completion_tokens"] == turn["completion_tokens"] > 0


async def test_errors_are_no_usage_and_answers_of_plugins_cost_nothing(proxy, upstream, tmp_path):
    faq = plugin(
        tmp_path,
        """
        if request.messages[-1]["content"] == "open?":
            return answer(request, "At nine.")
        return await call_next(request)
        """,
    )
    running_ = await proxy((await upstream(Tally())).url, OURS + BUDGET + faq + KEYS)
    assert (await send(running_, "refuse")).status == 404
    assert (await send(running_, "open?")).status == 200
    assert (await send(running_, "open?", stream=True)).status == 200
    (row,) = (await tells(running_, 2))["rows"]
    assert (row["requests"], row["local"], row["prompt_tokens"], row["usd"]) == (2, 2, 0, 0)


async def test_whoever_has_no_name_is_told_by_his_hash_and_never_by_his_key(proxy, upstream):
    running_ = await proxy((await upstream(Tally())).url, BUDGET)
    for caller in ("CANARY-1", "CANARY-2", "CANARY-1"):
        await send(running_, caller=caller)
    await tells(running_, 3)
    text = (await admin(running_, "/admin/usage?by=caller&format=csv")).body.decode()
    rows = [row["requests"] for row in csv.DictReader(StringIO(text))]
    assert sorted(rows) == ["1", "2"]
    assert "CANARY" not in text


async def test_names_that_clients_make_up_open_only_so_many_rows(proxy, upstream, monkeypatch):
    monkeypatch.setattr(usage, "ROWS", 4)
    tally = Tally()
    running_ = await proxy((await upstream(tally)).url, OURS + BUDGET + KEYS)
    for number in range(8):
        await send(running_, model=f"model-{number}")
    await send(running_, model="x" * 1_000)
    report = await tells(running_, 9)
    names = [row["model"] for row in report["rows"]]
    assert names == ["(others)", *(f"model-{number}" for number in range(4))]
    assert of(report["total"]) == tally.total


async def test_days_are_those_of_the_callers_zone(proxy, upstream, tmp_path):
    code = """
    from datetime import UTC, datetime
    from plugins.budget import SpendingLimit
    class It(SpendingLimit):
        def __init__(self, config, services):
            super().__init__(config, services)
            self.now = datetime(2026, 11, 22, 23, 30, tzinfo=UTC).astimezone
    """
    file = plugin(tmp_path, "class It(Plugin): pass")
    path = tmp_path / file.split('"')[1].partition(":")[0]
    path.write_text("\n".join(line[4:] for line in code.splitlines()))
    table = file + 'timezone = "America/New_York"\ntimezones = { "bob" = "Europe/Berlin" }\n'
    running_ = await proxy((await upstream(Tally())).url, OURS + table + KEYS)
    await send(running_, caller="ann")
    await send(running_, caller="bob")
    report = await tells(running_, 2)
    days = {row["caller"]: row["day"] for row in report["rows"]}
    assert days == {"ann": "2026-11-22", "bob": "2026-11-23"}
    assert (await told(running_, "?to=2026-11-22"))["total"]["requests"] == 1


@pytest.mark.parametrize(
    "query", ["?from=yesterday", "?by=month", "?format=xml", "?from=2026-11-02&to=2026-11-01"]
)
async def test_a_wrong_question_is_answered_with_what_is_wrong(proxy, upstream, query):
    running_ = await proxy((await upstream()).url, BUDGET)
    answer = await admin(running_, f"/admin/usage{query}")
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


async def test_usage_that_is_not_kept_is_not_told(proxy, upstream):
    limit = '[[plugins.budgets]]\nname = "b"\ntokens = 9\n'
    running_ = await proxy((await upstream()).url, BUDGET + 'keep_usage = "0 s"\n' + limit)
    assert (await admin(running_, "/admin/usage")).status == 404


# ---- processes that share a store


@pytest.fixture
async def proxies(upstream, tmp_path):
    """Start proxies that share a store; and what their upstream has said."""
    async with AsyncExitStack() as stack:

        async def start(url, tally, count=2, timeout="3 s"):
            up = await upstream(tally)
            toml = (
                OURS + f'store.url = "{url}"\nstore.timeout = "{timeout}"\n' + BUDGET + PRICE + KEYS
            )
            started = [await start_proxy(tmp_path, up.url, toml) for _ in range(count)]
            for each in started:
                stack.push_async_callback(each.stop)
            return started

        yield start


async def command(tmp_path, capsys, *arguments):
    """What `dragoman usage` prints."""
    file = tmp_path / "whole.toml"
    rest = (tmp_path / "dragoman.toml").read_text()
    file.write_text(f'upstream.base_url = "http://127.0.0.1:1/v1"\n{rest}')
    capsys.readouterr()
    code = await asyncio.to_thread(main, ["usage", "-c", str(file), *arguments])
    return code, capsys.readouterr()


async def test_all_processes_add_to_one_book_which_survives_them(proxies, redis, tmp_path, capsys):
    tally = Tally()
    for round_ in (1, 2):
        started = await proxies(redis.url, tally)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                caller = ("ann", "bob")[number % 2]
                group.create_task(send(started[number % 2], caller=caller, model="dear-1"))
        for each in started:
            await each.stop()  # also what was used in the last second
        code, said = await command(tmp_path, capsys, "--json")
        report = msgspec.json.decode(said.out)
        assert (code, of(report["total"])) == (0, tally.total)
        assert report["total"]["requests"] == 20 * round_
    (key,) = await redis.client.keys("*usage*")
    assert 400 * 86_400 < await redis.client.ttl(key) <= 401 * 86_400
    code, said = await command(tmp_path, capsys, "--by", "caller")
    lines = [line.split() for line in said.out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["caller", "requests"],
        ["ann", "20"],
        ["bob", "20"],
        ["total", "40"],
    ]
    _, said = await command(tmp_path, capsys, "--by", "caller,model", "--csv")
    assert said.out.startswith("caller,model,requests,")
    code, said = await command(tmp_path, capsys, "--from", "today")
    assert (code, "from should be a day" in said.err) == (2, True)


async def test_what_is_used_while_redis_is_frozen_is_written_once(proxies, redis):
    tally = Tally()
    (one, two) = await proxies(redis.url, tally, timeout="100 ms")
    await send(one)
    assert (await tells(one, 1))["total"]["requests"] == 1
    redis.freeze()
    for number in range(10):
        assert (await send((one, two)[number % 2])).status == 200
    assert (await admin(one, "/admin/usage")).status == 503
    await asyncio.sleep(1.5)  # some attempts to write have failed; Redis will find them all
    redis.thaw()

    async def is_complete():
        answer = await admin(two, "/admin/usage")
        return answer.status == 200 and answer.json["total"]["requests"] >= 11

    await until(is_complete, 20)
    for each in (one, two):
        await each.stop()
    fields = await redis.client.hgetall((await redis.client.keys("*usage*"))[0])
    written = Counter()
    for field, amount in fields.items():
        written[field.decode().rpartition("\n")[2]] += int(amount)
    assert (written["requests"], written["prompt"]) == (11, tally.total["prompt_tokens"])


async def test_usage_on_a_cluster(proxies):
    tally = Tally()
    async with cluster() as servers:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        started = await proxies(f"redis+cluster://{hosts}", tally)
        for number in range(6):
            await send(started[number % 2], model=f"model-{number}")
        await tells(started[0], 3)
        report = await tells(started[1], 6)
        assert of(report["total"]) == tally.total


async def test_the_command_says_where_usage_is_without_a_shared_store(
    proxy, upstream, tmp_path, capsys
):
    await proxy((await upstream()).url, BUDGET)
    code, said = await command(tmp_path, capsys)
    assert code == 2
    assert "ask its admin listener for /admin/usage" in said.err


async def test_the_command_says_that_the_store_is_gone(proxy, upstream, tmp_path, capsys):
    await proxy((await upstream()).url, 'store.url = "redis://127.0.0.1:1"\n' + BUDGET)
    code, said = await command(tmp_path, capsys)
    assert (code, "the store is gone" in said.err) == (1, True)


async def test_the_command_needs_the_plugin(proxy, upstream, tmp_path, capsys):
    await proxy((await upstream()).url, "")
    code, said = await command(tmp_path, capsys)
    assert (code, "no budget is among the plugins" in said.err) == (2, True)
