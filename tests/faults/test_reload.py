"""The configuration is read again while requests go on; a wrong one changes nothing."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import weakref

import msgspec
import pytest

from proxy.errors import ConfigError
from proxy.serving.reload import Change
from proxy.startup import load
from tests.support.plugins import plugin, told
from tests.support.raw import Client, admin, ask_chat, chat_body, request
from tests.support.redis import until
from tests.support.upstream import chunks
from tests.support.workers import SHARED, samples, workers

ALONE = """
upstream.base_url = "{url}"
server.port = 0
server.admin_port = 0
telemetry.estimate_usage = false
"""

# Each says in a file what becomes of it, and puts its mark on whatever it sees.
PLUGIN = """
import os
from pathlib import Path

from proxy.plugin import Options, Plugin


class MarkOptions(Options):
    mark: str
    words: Path | None = None


class Mark(Plugin[MarkOptions]):
    Config = MarkOptions

    @classmethod
    def files(cls, config):
        return [config.words] if config.words else []

    async def start(self):
        self.words = self.config.words.read_text() if self.config.words else ""
        self._tell("started")

    async def handle(self, request, call_next):
        response = await call_next(request)
        response.on_finish(self.settle)
        mark = self.config.mark + self.words
        return response.map_text(lambda text: text and f"{text}{mark}")

    async def settle(self, outcome):
        self._tell("settled")

    async def stop(self):
        self._tell("stopped")

    def _tell(self, what):
        with open("told", "a") as file:
            file.write(f"{self.services.name}({self.config.mark}) {what}\\n")
"""


@pytest.fixture
def written(tmp_path):
    """Write the configuration of the first process anew, out of a beginning and plugins."""
    (tmp_path / "mark.py").write_text(PLUGIN)

    def write(beginning, **marks):
        tables = (
            f'[[plugins]]\nuse = "./mark.py:Mark"\nname = "{name}"\nmark = "{mark}"\n'
            for name, mark in marks.items()
        )
        text = beginning + "".join(tables)
        (tmp_path / "process0.toml").write_text(text)
        return text

    return write


@pytest.fixture
def lines_of(tmp_path):
    """What plugins have said, in order."""

    def lines():
        path = tmp_path / "told"
        return path.read_text().splitlines() if path.exists() else []

    return lines


class Held:
    """An upstream whose streams stop after a word, until they are told to go on."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.keys: list[str] = []

    async def __call__(self, call):
        self.keys.append(call.header("authorization"))
        if not call.json.get("stream"):
            await call.chat("Hello.")
            return
        events = chunks("one two", {})
        await call.start_stream()
        for event in events[:2]:
            await call.chunk(event)
        await self.release.wait()
        for event in events[2:]:
            await call.chunk(event)
        await call.end_chunks()


def hang_up(process):
    os.kill(process.pid, signal.SIGHUP)


async def text_of(process, *headers):
    """What a short answer says."""
    async with await process.connect() as client:
        await client.send(request(chat_body(), *headers))
        answer = await client.answer()
    assert answer.status == 200, answer.body
    return answer.json["choices"][0]["message"]["content"]


async def test_streams_end_with_the_plugins_they_began_with(serve, upstream, written, lines_of):
    held = Held()
    start = ALONE.format(url=(await upstream(held)).url)
    process = await serve(written(start, kept="K", changed="1", gone="G"))
    assert await text_of(process) == "Hello.G1K"
    async with await process.connect() as stream:
        await stream.send(request(chat_body(stream=True), ("Connection", "close")))
        assert (await stream.head()).status == 200
        written(start, new="N", changed="2", kept="K")
        hang_up(process)
        await process.hears(
            "read again: plugin new is new, plugin changed has changed, plugin gone is gone, "
            "the order of plugins"
        )
        assert await text_of(process) == "Hello.K2N"
        assert not [line for line in lines_of() if "stopped" in line]
        held.release.set()
        rest = await stream.rest()
    assert b'" twoG1K"' in rest
    assert b"[DONE]" in rest
    await until(lambda: has(lines_of, "gone(G) stopped"))
    lines = lines_of()
    assert lines.count("kept(K) started") == 1
    assert "kept(K) stopped" not in lines
    # The stream's own accounts were settled before.
    assert lines.index("gone(G) stopped") > len(lines) - 1 - lines[::-1].index("gone(G) settled")
    process.terminate()
    assert await process.exits() == 0
    stopped = sorted(line for line in lines_of() if "stopped" in line)
    assert stopped == [
        f"{who} stopped" for who in ("changed(1)", "changed(2)", "gone(G)", "kept(K)", "new(N)")
    ]


async def has(lines_of, line):
    return line in lines_of()


async def test_a_wrong_file_changes_nothing_and_is_told_once(serve, upstream, written):
    start = ALONE.format(url=(await upstream()).url)
    process = await serve(written(start, mark="1"))
    since = (await samples(process))["dragoman_config_loaded_timestamp_seconds"]
    written(f"{start}server.prot = 1\n", mark="2", other=2)
    hang_up(process)
    await process.hears("the configuration stays as it was: .*unknown key 'prot'")
    assert await text_of(process) == "Hello.1"
    assert process.said.count("stays as it was") == 1
    counted = await samples(process)
    assert counted['dragoman_config_reloads_total{outcome="refused"}'] == 1
    assert counted["dragoman_config_loaded_timestamp_seconds"] == since
    written(start, mark="2")
    hang_up(process)
    await process.hears("read again: plugin mark has changed")
    assert await text_of(process) == "Hello.2"
    counted = await samples(process)
    assert counted['dragoman_config_reloads_total{outcome="loaded"}'] == 1
    assert counted["dragoman_config_loaded_timestamp_seconds"] > since


async def test_a_plugin_that_cannot_start_changes_nothing(
    serve, upstream, written, lines_of, tmp_path
):
    start = ALONE.format(url=(await upstream()).url)
    process = await serve(written(start, mark="1"))
    text = written(start, new="N", mark="2") + 'words = "nowhere"\n'
    (tmp_path / "process0.toml").write_text(text)
    hang_up(process)
    await process.hears("the configuration stays as it was: plugin mark cannot start: FileNotFound")
    assert await text_of(process) == "Hello.1"
    assert lines_of()[1:3] == ["new(N) started", "mark(2) stopped"]


async def test_what_applies_at_once_and_what_waits_for_a_restart(serve, upstream, written):
    held = Held()
    start = ALONE.format(url=(await upstream(held)).url)
    process = await serve(written(start + 'upstream.api_key = "sk-old"\n', mark="1"))
    assert await text_of(process) == "Hello.1"
    key = f'[[keys]]\nname = "alice"\nsha256 = "{hashlib.sha256(b"dgm-alice").hexdigest()}"\n'
    changes = 'server.drain = "1 s"\nserver.unguarded = "refuse"\nupstream.api_key = "sk-new"\n'
    fixed = 'telemetry.service_name = "other"\nserver.max_header = "8 KiB"\n'
    written(start.replace("server.port = 0", "server.port = 1") + changes + fixed + key, mark="1")
    hang_up(process)
    await process.hears(
        "read again: keys, server.drain, server.unguarded, upstream.api_key$",
    )
    await process.hears(
        "a restart is needed for server.max_header, server.port, telemetry.service_name$"
    )
    assert await text_of(process, ("Authorization", "Bearer dgm-alice")) == "Hello.1"
    assert held.keys == ["Bearer sk-old", "Bearer sk-new"]
    async with await process.connect() as client:
        await client.send(request(chat_body()))
        assert (await client.answer()).status == 401
        await client.send(
            request(b"{}", ("Authorization", "Bearer dgm-alice"), target="/v1/responses")
        )
        assert (await client.answer()).status == 403


async def test_what_applies_must_go_with_what_waits(serve, upstream, written):
    """The new file is right; but as long as the old address is in use, the key would be anybody's."""
    start = ALONE.format(url=(await upstream()).url)
    process = await serve(written(start + 'server.host = "0.0.0.0"\n', mark="1"), wait=False)
    await process.hears("^admin ")
    written(start + 'upstream.api_key = "sk-ours"\n', mark="1")
    hang_up(process)
    await process.hears("as long as server.host is as before: .* could spend upstream.api_key")


async def test_files_are_watched_where_that_is_asked_for(serve, upstream, written, tmp_path):
    start = ALONE.format(url=(await upstream()).url) + "server.watch_config = true\n"
    words = tmp_path / "words.txt"
    words.write_text("!")
    text = written(start, mark="1") + f'words = "{words}"\n'
    process = await serve(text)
    assert await text_of(process) == "Hello.1!"

    async def says(answer):
        return await text_of(process) == answer

    words.write_text("?")
    await until(lambda: says("Hello.1?"), 30)
    (tmp_path / "mark.py").write_text(PLUGIN.replace("{mark}", "<{mark}>"))
    await until(lambda: says("Hello.<1?>"), 30)
    written(start.replace("watch", "wacth"), mark="2")
    await process.hears("stays as it was: .*did you mean 'watch_config'")
    await asyncio.sleep(3)
    assert process.said.count("stays as it was") == 1
    written(start, mark="2")
    await until(lambda: says("Hello.<2>"), 30)


async def test_all_workers_read_it_and_those_that_come_later_have_it(serve, upstream, written):
    start = SHARED.format(url=(await upstream()).url)
    process = await serve(written(start, mark="1"))
    written(start.replace("workers = 2", "workers = 3"), mark="2")
    hang_up(process)
    await process.hears("a restart is needed for server.workers")

    async def loaded():
        return (await samples(process)).get('dragoman_config_reloads_total{outcome="loaded"}') == 2

    await until(loaded)
    assert {await text_of(process) for _ in range(20)} == {"Hello.2"}
    assert process.said.count("read again") == 1
    written(start + "server.prot = 1\n", mark="3")
    hang_up(process)
    await process.hears("stays as it was: .*prot")

    async def refused():
        counted = await samples(process)
        return counted.get('dragoman_config_reloads_total{outcome="refused"}') == 2

    await until(refused)
    assert process.said.count("stays as it was") == 1
    for worker in workers(process):
        worker.kill()
    await process.hears("worker 1 serves again")
    await process.hears("worker 2 serves again")
    assert {await text_of(process) for _ in range(20)} == {"Hello.2"}


async def test_a_configuration_that_no_worker_can_start_with_is_not_used_for_those_to_come(
    serve, upstream, written, tmp_path
):
    start = SHARED.format(url=(await upstream()).url)
    process = await serve(written(start, mark="1"))
    (tmp_path / "process0.toml").write_text(written(start, mark="2") + 'words = "nowhere"\n')
    hang_up(process)
    await process.hears("worker 1.*stays as it was: plugin mark cannot start")
    workers(process)[0].kill()
    await process.hears("worker 1 could not start: .*with the configuration of before")
    await process.hears("worker 1 serves again")
    assert {await text_of(process) for _ in range(20)} == {"Hello.1"}


# ---- in the process of the test


NAMED = """
class It(Plugin):
    async def stop(self):
        told.append(self.services.name)
"""


async def adopt(running, tmp_path, toml):
    """Have a proxy in this process serve by another configuration."""
    path = tmp_path / "dragoman.toml"
    path.write_text(toml)
    now = running.server.configuration
    flags = {"--upstream": str(now.settings.upstream.base_url), "--admin-port": "0"}
    read = await asyncio.to_thread(load, path, flags, {})
    await running.server.adopt(Change.of(now, read).configuration)


async def test_nothing_stays_of_a_configuration_that_is_no_longer_in_use(proxy, upstream, tmp_path):
    running = await proxy((await upstream()).url, plugin(tmp_path, NAMED, name="p0"))
    old = []
    for number in range(1, 4):
        assert (await ask_chat(running)).status == 200
        old.append(weakref.ref(running.server._generations[-1].edge))
        await adopt(running, tmp_path, plugin(tmp_path, NAMED, name=f"p{number}"))
    assert (await ask_chat(running)).status == 200

    async def forgotten():
        gc.collect()
        return not any(edge() for edge in old)

    await until(forgotten)
    assert told == ["p2"]  # plugin() forgets what was told before


async def test_a_stop_amid_a_change_stops_old_and_new_plugins_once(proxy, upstream, tmp_path):
    held = Held()
    old = plugin(tmp_path, NAMED, name="old") + plugin(tmp_path, NAMED, name="both")
    running = await proxy((await upstream(held)).url, old)
    async with await Client.open(running.server.port) as stream:
        await stream.send(request(chat_body(stream=True)))
        assert (await stream.head()).status == 200
        both = "[[plugins]]" + old.split("[[plugins]]")[2]
        await adopt(running, tmp_path, both + plugin(tmp_path, NAMED, name="new"))
        assert (await ask_chat(running)).status == 200
        stopping = asyncio.get_running_loop().create_task(running.stop())
        await asyncio.sleep(0.1)
        assert told == []
        held.release.set()
        assert b"[DONE]" in await stream.rest()
        await stopping
    assert sorted(map(str, told)) == ["both", "new", "old"]


async def test_plugins_that_are_gone_do_not_wait_for_ever(
    proxy, upstream, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("proxy.serving.server.RETIRE_SECONDS", 0.1)
    held = Held()
    running = await proxy((await upstream(held)).url, plugin(tmp_path, NAMED, name="old"))
    async with await Client.open(running.server.port) as stream:
        await stream.send(request(chat_body(stream=True), ("Connection", "close")))
        assert (await stream.head()).status == 200
        await adopt(running, tmp_path, "")

        async def stopped():
            return told == ["old"]

        await until(stopped)
        assert "requests still use them" in caplog.text
        held.release.set()
        assert b"[DONE]" in await stream.rest()


BUDGET = """
telemetry.estimate_usage = false
[[plugins]]
use = "budget"
[[plugins.budgets]]
name = "b"
tokens = 100
soft = {}
"""


UNABLE = """
class It(Plugin):
    async def start(self):
        raise OSError("no")
"""


async def test_what_is_spent_stays_spent_when_the_budget_changes_in_memory(
    proxy, upstream, tmp_path
):
    up = await upstream(lambda call: call.chat("hello", (60, 10)))
    running = await proxy(up.url, BUDGET.format(0.9))

    async def requests():
        body = (await admin(running, "/admin/usage")).body
        return msgspec.json.decode(body)["total"]["requests"]

    assert (await ask_chat(running)).header("x-dragoman-budget") is None
    await until(lambda: is_equal(requests, 1))
    await adopt(running, tmp_path, BUDGET.format(0.5))
    assert (await ask_chat(running)).header("x-dragoman-budget") == "b;spent=0.70"
    await until(lambda: is_equal(requests, 2))
    broken = plugin(tmp_path, UNABLE, name="broken")
    with pytest.raises(ConfigError):
        await adopt(running, tmp_path, BUDGET.format(0.6) + broken)
    assert (await ask_chat(running)).status == 429
    assert await requests() == 2


async def is_equal(function, expected):
    return await function() == expected
