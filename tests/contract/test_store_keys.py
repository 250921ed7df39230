"""Keys in the store, as an operator makes, lists, rotates and revokes them, and as proxies follow."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from proxy import cli
from proxy.callers import fingerprint
from proxy.errors import ConfigError
from proxy.keys import command
from proxy.keys.table import PREFIX
from proxy.plugin import StoreUnavailable
from tests.support.plugins import plugin, told
from tests.support.process import ROOT
from tests.support.proxy import start_proxy
from tests.support.raw import admin, ask, chat_body, metric, request
from tests.support.redis import until

SETTINGS = """
upstream.api_key = "sk-of-the-operator"
store.url = "{url}"
store.keys = true
store.timeout = "2 s"
telemetry.estimate_usage = false
telemetry.turn_log = false
[[keys]]
name = "breakglass"
sha256 = "%s"
""" % fingerprint("dgm-breakglass")  # noqa: UP031  # braces are for the URL
FOLLOW = 10.0
"""Seconds within which proxies follow the store: twice what is promised, for a busy machine."""
KEY = re.compile(r"dgm-[\w-]{43}")


@pytest.fixture
def store_only(redis, tmp_path):
    """The configuration of a machine that knows the store alone: all that the command needs."""
    file = tmp_path / "keys.toml"
    file.write_text(f'[store]\nurl = "{redis.url}"\nkeys = true\n')
    return str(file)


@pytest.fixture
async def dragoman(store_only):
    """Do what `dragoman keys ...` does; what it prints."""

    def run(arguments):
        return command.done(cli._parse(["keys", *arguments, "-c", store_only]), {})

    async def done(*arguments):
        return "\n".join(await asyncio.to_thread(run, arguments))

    return done


@pytest.fixture
async def start(redis, upstream, tmp_path):
    """Start proxies that share the store."""
    started = []

    async def run(count=2, more="", url=redis.url):
        up = await upstream()
        for _ in range(count):
            toml = SETTINGS.format(url=url) + more
            started.append(await start_proxy(tmp_path, up.url, toml))
        return started

    yield run
    for each in started:
        await each.stop()


def made(said):
    """The key that a command has made."""
    (key,) = KEY.findall(said)
    return key


async def status(proxy, key, **fields):
    bearer = ("Authorization", f"Bearer {key}")
    return (await ask(proxy, request(chat_body(**fields), bearer))).status


async def statuses(proxies, key):
    return [await status(each, key) for each in proxies]


async def become(proxies, key, expected):
    """Wait until every proxy answers so."""

    async def do():
        return await statuses(proxies, key) == [expected] * len(proxies)

    await until(do, FOLLOW)


async def test_two_proxies_follow_what_the_operator_does_within_seconds(
    redis, dragoman, start, tmp_path, caplog
):
    caplog.set_level("DEBUG")
    see = (
        "told.append((request.caller.name, request.caller.groups))\nreturn await call_next(request)"
    )
    proxies = await start(more=plugin(tmp_path, see))
    assert await statuses(proxies, "dgm-unknown") == [401, 401]
    given = ("--groups", "free", "--models", "gpt-4o*", "--expires", "90d")
    old = made(await dragoman("new", "--name", "alice", *given))
    await become(proxies, old, 200)
    assert told[-1] == ("alice", ("free",))
    assert [await status(each, old, model="o3") for each in proxies] == [403, 403]

    with pytest.raises(ConfigError, match="alice has a key") as again:
        await dragoman("new", "--name", "alice")

    new = made(await dragoman("rotate", "alice", "--grace", "1h"))
    await become(proxies, new, 200)
    assert await statuses(proxies, old) == [200, 200]
    last = made(await dragoman("rotate", "alice", "--grace", "0s"))
    await become(proxies, new, 401)
    assert await statuses(proxies, old) == [401, 401]
    assert await statuses(proxies, last) == [200, 200]

    async def its_use_is_noted():
        return await redis.client.keys(f"{PREFIX}used:{fingerprint(last)[:16]}")

    await until(its_use_is_noted, FOLLOW)
    listed = await dragoman("list")
    today = datetime.now(UTC).date()
    row = next(line for line in listed.splitlines() if line.startswith("alice"))
    assert row.split()[:3] == ["alice", f"{fingerprint(last)[:8]}...", str(today)]
    assert str(today + timedelta(days=90)) in row
    assert row.count(str(today)) == 2
    assert row.split()[-2:] == ["free", "gpt-4o*"]

    revoked = await dragoman("revoke", "alice")
    assert "0 keys" in revoked
    await become(proxies, last, 401)
    with pytest.raises(ConfigError, match="no key of alice"):
        await dragoman("revoke", "alice")

    said = caplog.text + listed + revoked + str(again.value)
    said += "".join([(await admin(each, "/metrics")).body.decode() for each in proxies])
    held = b"".join(
        [name + b" " + (await redis.client.get(name) or b"") for name in await redis.client.keys()]
    ).decode()
    for key in (old, new, last):
        assert key not in said + held
        assert hashlib.sha256(key.encode()).hexdigest() not in said


async def test_the_command_on_two_machines_at_once_loses_nothing(store_only, redis):
    environ = {name: value for name, value in os.environ.items() if "DRAGOMAN" not in name}

    async def run(*arguments):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "keys", *arguments, "-c", store_only),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ | {"PYTHONPATH": str(ROOT)},
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()

    async with asyncio.TaskGroup() as group:
        ran = [group.create_task(run("new", "--name", name)) for name in ("a", "b", "a")]
    outcomes = sorted(task.result() for task in ran)
    assert [code for code, _, _ in outcomes] == [0, 0, 2]
    assert len({made(out) for _, out, _ in outcomes[:2]}) == 2
    code, out, err = outcomes[2]
    assert (out, err.count("\n")) == ("", 1)
    code, out, err = await run("list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["name", "a", "b"]
    await redis.kill()
    code, out, err = await run("new", "--name", "c")
    assert (code, out) == (1, "")
    assert err.startswith(f"{redis.url}: ")
    assert err.count("\n") == 1


async def test_a_limit_of_a_group_holds_for_a_key_that_the_store_puts_into_it(dragoman, start):
    (proxy,) = await start(
        1,
        '[[plugins]]\nuse = "rate_limit"\n[[plugins.limits]]\nname = "free"\nrequests = 2\n'
        'match.callers = ["group:free"]\n',
    )
    free = made(await dragoman("new", "--name", "a", "--groups", "free", "trial"))
    paid = made(await dragoman("new", "--name", "b", "--groups", "paid"))
    await become([proxy], paid, 200)
    assert [await status(proxy, free) for _ in range(3)] == [200, 200, 429]
    assert [await status(proxy, paid) for _ in range(3)] == [200] * 3


async def test_a_table_that_a_newer_version_has_written_is_not_written_over(redis, dragoman, start):
    await redis.client.set(f"{PREFIX}table", b"0" * 32 + b'{"v":9}')
    for arguments in (("new", "--name", "a"), ("list",), ("revoke", "a")):
        with pytest.raises(StoreUnavailable, match="newer version"):
            await dragoman(*arguments)
    assert await redis.client.get(f"{PREFIX}table") == b"0" * 32 + b'{"v":9}'
    (proxy,) = await start(1)
    assert await status(proxy, "dgm-any") == 503


# ---- without the store


@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_while_redis_is_gone_known_keys_stay_good_and_nobody_waits(
    redis, dragoman, start, caplog, trouble
):
    caplog.set_level("INFO", "dragoman.keys")
    old = made(await dragoman("new", "--name", "alice"))
    (proxy,) = await start(1)
    assert await status(proxy, old) == 200
    if trouble == "killed":
        await redis.kill()
    else:
        redis.freeze()

    async def is_noticed():
        return "those last read stay good" in caplog.text

    loop = asyncio.get_running_loop()
    begun, asked = loop.time(), 0
    while loop.time() - begun < 2:  # the store's timeout is longer than all of them take
        assert await status(proxy, old) == 200
        assert await status(proxy, "dgm-unknown") == 401
        asked += 2
    assert asked > 8
    await until(is_noticed, 20)
    await until(lambda: _is_stale(proxy, True), 20)
    assert (await admin(proxy, "/readyz")).status == 200
    assert await status(proxy, old) == 200

    if trouble == "killed":
        await redis.start()  # it has forgotten everything
    else:
        redis.thaw()
        await dragoman("revoke", "alice")
        await until(lambda: _is(proxy, old, 401), 20)
    new = made(await dragoman("new", "--name", "bob"))
    await until(lambda: _is(proxy, new, 200), 20)
    assert await status(proxy, old) == 401
    assert "the keys are current again" in caplog.text
    await until(lambda: _is_stale(proxy, False), 20)


async def _is_stale(proxy, expected):
    return (await metric(proxy, "dragoman_keys_stale_seconds") > 0) is expected


async def _is(proxy, key, expected):
    return await status(proxy, key) == expected


async def test_a_table_that_vanished_is_a_trouble_of_the_store_and_revokes_nothing(
    redis, dragoman, start, caplog
):
    key = made(await dragoman("new", "--name", "alice"))
    (proxy,) = await start(1)
    await redis.client.flushall()

    async def is_noticed():
        return "their table is gone" in caplog.text

    await until(is_noticed, FOLLOW)
    assert await status(proxy, key) == 200


async def test_started_without_its_store_it_lets_nobody_in_but_the_keys_of_the_configuration(
    redis, dragoman, start, tmp_path, upstream
):
    key = made(await dragoman("new", "--name", "alice"))
    await redis.kill()
    (proxy,) = await start(1)
    answer = await ask(proxy, request(chat_body(), ("Authorization", f"Bearer {key}")))
    assert (answer.status, answer.code) == (503, "keys_unavailable")
    assert answer.header("Retry-After") == "2"
    assert key.encode() not in answer.body
    assert (await ask(proxy, request(chat_body()))).status == 401
    assert await status(proxy, "dgm-breakglass") == 200
    assert (await admin(proxy, "/readyz")).status == 200  # for those keys
    up = await upstream()
    alone = SETTINGS.format(url=redis.url).partition("[[keys]]")[0]
    other = await start_proxy(tmp_path, up.url, alone)
    try:
        assert await status(other, "dgm-breakglass") == 503
        assert (await admin(other, "/readyz")).status == 503
        await redis.start()
        await dragoman("new", "--name", "bob")
        await until(lambda: _is(other, "dgm-breakglass", 401), 20)
        assert (await admin(other, "/readyz")).status == 200
    finally:
        await other.stop()
    assert up.connections == 0
