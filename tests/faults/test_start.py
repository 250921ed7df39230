"""What must not start says why, and listens to nobody."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from proxy.errors import ConfigError
from tests.support.plugins import plugin, told
from tests.support.raw import ask_chat

BASE = """
[upstream]
base_url = "http://127.0.0.1:1/v1"
"""


@pytest.fixture
def occupied():
    """A port that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("setting", ["port", "admin_port"])
async def test_a_port_in_use_is_exit_2_with_the_address_and_the_likely_cause(
    serve, occupied, setting
):
    other = "admin_port" if setting == "port" else "port"
    toml = f"{BASE}\n[server]\n{setting} = {occupied}\n{other} = 0"
    process = await serve(toml, wait=False)
    assert await process.exits() == 2
    assert f"cannot listen on 127.0.0.1:{occupied}: Address already in use" in process.said
    assert "another proxy" in process.said
    assert "Traceback" not in process.said


async def test_an_address_that_is_not_ours_is_exit_2(serve):
    process = await serve(f'{BASE}\n[server]\nhost = "192.0.2.1"\nport = 0', wait=False)
    assert await process.exits() == 2
    assert "cannot listen on 192.0.2.1:0" in process.said
    assert "Traceback" not in process.said


async def test_every_mistake_is_told_at_once_with_its_line_and_nothing_listens(serve, occupied):
    toml = f"""
    [upstream]
    base_url = "api.openai.com/v1"
    api_key = "env:NO_SUCH_VARIABLE"
    [server]
    prot = 80
    port = {occupied}
    [[plugins]]
    use = "samplign"
    [[keys]]
    name = "a b"
    sha256 = "sk-canary"
    """
    process = await serve(toml, wait=False)
    assert await process.exits() == 2
    mistakes = process.said.splitlines()
    for line, word in ((3, "base_url"), (4, "NO_SUCH_VARIABLE"), (6, "prot"), (9, "samplign")):
        assert [m for m in mistakes if f".toml:{line}: " in m and word in m], (line, process.said)
    assert "did you mean" in process.said
    assert "sk-canary" not in process.said
    assert "cannot listen" not in process.said
    assert "Traceback" not in process.said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-c", "nowhere.toml"), "nowhere.toml"),
        (("--upstream", "ftp://example.com"), "http"),
        (("--port", "70000"), "port"),
    ],
)
async def test_a_wrong_argument_is_exit_2(serve, arguments, words):
    process = await serve(BASE, *arguments, wait=False)
    assert await process.exits() == 2
    assert words in process.said
    assert "Traceback" not in process.said


async def test_an_empty_secret_is_exit_2(serve):
    toml = f'{BASE}\napi_key = "env:UPSTREAM_KEY"'
    process = await serve(toml, wait=False, environ={"UPSTREAM_KEY": ""})
    assert await process.exits() == 2
    assert "UPSTREAM_KEY" in process.said


async def test_without_the_c_parser_it_does_not_start(serve):
    process = await serve(BASE, wait=False, environ={"AIOHTTP_NO_EXTENSIONS": "1"})
    assert await process.exits() == 2
    assert "C parser" in process.said
    assert "Traceback" not in process.said


async def test_a_key_of_our_own_is_not_lent_to_a_whole_network(serve):
    toml = f'{BASE}\napi_key = "sk-canary"\n[server]\nhost = "0.0.0.0"\nport = 0\nadmin_port = 0'
    process = await serve(toml, wait=False)
    assert await process.exits() == 2
    assert "allow_anonymous" in process.said
    assert "sk-canary" not in process.said


async def test_an_exporter_that_is_unknown_is_exit_2(serve):
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    }
    process = await serve(BASE, wait=False, environ=environ)
    assert await process.exits() == 2
    assert "http/json" in process.said
    assert "Traceback" not in process.said


async def test_what_the_operator_has_to_mend_is_said_without_a_traceback(serve, tmp_path):
    words = f"[[plugins.lists]]\nname = 'a'\nfiles = ['{tmp_path}/none.txt']\n"
    for table, said in (
        (f"use = 'moderation'\n{words}", "moderation cannot start: .*No such file.*none.txt"),
        (
            f"use = 'faq_cache'\nfile = '{tmp_path}/none.toml'\n",
            "faq_cache cannot start: .*none.toml",
        ),
    ):
        toml = f"upstream.base_url = 'http://127.0.0.1:1/v1'\n[[plugins]]\n{table}"
        process = await serve(toml, wait=False)
        assert await process.exits() == 2
        assert re.fullmatch(f"plugin {said}.*\n", process.said)


async def test_a_plugin_that_cannot_start_keeps_the_server_from_starting(serve, tmp_path, occupied):
    code = """
    class It(Plugin):
        async def start(self):
            raise ConnectionError("no model here")
    """
    toml = f"server.port = {occupied}\nupstream.base_url = 'http://127.0.0.1:1/v1'\n"
    process = await serve(toml + plugin(tmp_path, code), wait=False)
    assert await process.exits() == 2
    assert process.said.endswith("plugin unlucky cannot start: ConnectionError: no model here\n")
    assert "plugin_" in process.said  # the author's own line
    assert "cannot listen" not in process.said  # it did not even try


async def test_plugins_that_have_started_are_stopped_if_a_later_one_cannot(
    proxy, upstream, tmp_path
):
    good = """
    class It(Plugin):
        async def start(self):
            told.append("started")
        async def stop(self):
            told.append("stopped")
    """
    bad = """
    class It(Plugin):
        async def start(self):
            raise ValueError
    """
    up = await upstream()
    toml = plugin(tmp_path, good, name="good") + plugin(tmp_path, bad, name="bad")
    before = {task for task in asyncio.all_tasks() if not task.done()}
    with pytest.raises(ConfigError):
        await proxy(up.url, toml)
    assert told == ["started", "stopped"]
    assert {task for task in asyncio.all_tasks() if not task.done()} <= before
    assert (await ask_chat(await proxy(up.url))).status == 200  # nothing of it is left


async def test_the_start_does_not_wait_for_the_upstream(proxy):
    """It may come up later than the proxy."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    running = await proxy(f"http://127.0.0.1:{port}/v1")
    assert (await ask_chat(running)).status == 502
