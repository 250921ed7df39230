"""Several processes on one port: what one of them does is no other's misfortune."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.support.plugins import plugin
from tests.support.raw import chat_body, refused, request
from tests.support.redis import until
from tests.support.upstream import chunks
from tests.support.workers import SHARED, by_worker, samples, samples_when, workers

ROUTE = (
    'http_request_method="POST",http_response_status_code="200",http_route="/v1/chat/completions"'
)
SERVED = f"http_server_request_duration_seconds_count{{{ROUTE}}}"

KEY = (("Authorization", "Bearer sk-alice"),)


class Streams:
    """An upstream whose streams begin at once, and end when they are told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, call):
        if not call.json.get("stream"):
            await call.chat()
            return
        first, *others = chunks("one two", {})
        await call.start_stream()
        await call.chunk(first)
        await self.release.wait()
        for event in others:
            await call.chunk(event)
        await call.end_chunks()


@pytest.fixture
async def streaming(serve, upstream):
    """Start two workers, and so many streams through them: the process, its clients, their end."""
    async with AsyncExitStack() as stack:

        async def start(count, toml=""):
            streams = Streams()
            process = await serve(SHARED.format(url=(await upstream(streams)).url) + toml)
            clients = [
                await stack.enter_async_context(await process.connect()) for _ in range(count)
            ]
            for client in clients:
                await client.send(request(chat_body(stream=True), *KEY, ("Connection", "close")))
                assert (await client.head()).status == 200
            return process, clients, streams.release

        yield start


async def ended(client):
    """How a stream that has begun ends."""
    return (await client.rest()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def one_request(process):
    async with await process.connect() as client:
        await client.send(request(chat_body()))
        return (await client.answer()).status


async def test_a_worker_that_is_killed_takes_only_its_own_streams_and_comes_back(streaming):
    process, clients, release = await streaming(60)
    assert re.findall(r"^(dragoman|admin) ", process.said, re.MULTILINE) == ["dragoman", "admin"]
    for _ in range(10):
        assert await one_request(process) == 200
    await samples_when(process, "http_server_active_requests", 60)
    await process.turns(10)  # they are written: what waits to be would die with its worker
    victim, survivor = workers(process)
    served = by_worker(process, clients)
    assert sum(map(len, served.values())) == 60
    victim.kill()
    await process.hears(r"worker 1 was ended by SIGKILL; the next one starts in 1 s")
    assert [await one_request(process) for _ in range(20)] == [200] * 20  # while it is gone
    left = await samples_when(process, SERVED, 30)
    assert left["http_server_active_requests"] == len(served[survivor.pid])
    release.set()
    assert [await ended(client) for client in served[victim.pid]] == [False] * len(
        served[victim.pid]
    )
    assert all([await ended(client) for client in served[survivor.pid]])
    await process.hears("worker 1 serves again")
    assert re.findall(r"worker \d serves again", process.said) == ["worker 1 serves again"]
    assert len(workers(process)) == 2
    assert [await one_request(process) for _ in range(20)] == [200] * 20
    whole = await samples_when(process, SERVED, 50 + len(served[survivor.pid]))
    assert whole["dragoman_worker_starts_total"] == 3
    assert process.said.count("was ended by") == 1
    turns = await process.turns(50 + len(served[survivor.pid]))
    assert len({turn["request_id"] for turn in turns}) == len(turns)
    workers(process)[-1].kill()  # and what comes back is told to take more time
    await process.hears("worker 1 was ended by SIGKILL; the next one starts in 2 s")


async def test_metrics_of_two_workers_are_one_page_in_either_form(streaming):
    process, _, _ = await streaming(0)
    assert [await one_request(process) for _ in range(20)] == [200] * 20
    await samples_when(process, SERVED, 20)
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        found = await samples(process, accept)
        assert found[SERVED] == 20
        assert found[SERVED.replace("count", "bucket").replace("}", ',le="+Inf"}')] == 20
        info = [name for name in found if name.startswith("dragoman_build_info")]
        assert [found[name] for name in info] == [1]
        assert not [name for name in found if "pid=" in name]


async def test_sigterm_lets_the_streams_of_all_workers_finish(streaming):
    process, clients, release = await streaming(30)
    pids = [worker.pid for worker in workers(process)]
    assert len(by_worker(process, clients)) == 2
    process.terminate()
    os.kill(pids[0], signal.SIGTERM)  # as a service that is stopped sends it to every process
    await until(lambda: refused(process.port))
    release.set()
    assert all([await ended(client) for client in clients])
    assert await process.exits() == 0
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    drained = re.findall(r"drained (\d+) exchanges, cut off 0", process.said)
    assert len(drained) == 2
    assert sum(map(int, drained)) == 30
    assert len(await process.turns(30)) == 30


async def test_a_second_signal_ends_all_of_them_at_once(streaming):
    process, _, _ = await streaming(4, 'server.drain = "60 s"')
    pids = [worker.pid for worker in workers(process)]
    process.terminate()
    await until(lambda: refused(process.port))
    process.terminate()
    assert await process.exits(5) == 1
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


async def test_workers_whose_parent_is_killed_finish_what_they_do_and_leave_the_port(
    streaming, serve, upstream
):
    process, clients, release = await streaming(10)
    family = workers(process)
    folder = folder_of(family[0])
    os.kill(process.pid, signal.SIGKILL)
    for port in (process.port, process.admin_port):
        await until(partial(refused, port))
    toml = SHARED.format(url=(await upstream()).url)
    ports = ("--port", str(process.port), "--admin-port", str(process.admin_port))
    successor = await serve(toml, *ports)
    assert await one_request(successor) == 200
    release.set()
    assert all([await ended(client) for client in clients])

    async def gone():
        return not any(worker.is_running() for worker in family)

    await until(gone, 20)
    assert leaves_nothing(folder)


def leaves_nothing(folder):
    return not folder.exists()


def folder_of(worker):
    """Where the metrics of all workers are."""
    maps = [Path(each.path) for each in worker.memory_maps()]
    return next(path.parent for path in maps if path.suffix == ".db")


async def test_what_is_left_when_all_are_killed_is_removed_at_the_next_start(streaming, serve):
    living, _, _ = await streaming(0)
    killed = await serve(SHARED.format(url="http://x/v1"))
    folders = [folder_of(workers(process)[0]) for process in (killed, living)]
    await killed.kill()
    for folder in folders:
        os.utime(folder, (1, 1))  # they have been there for long
    await serve(SHARED.format(url="http://x/v1"))
    assert [leaves_nothing(folder) for folder in folders] == [True, False]


async def test_what_keeps_a_worker_from_starting_is_said_once_and_is_exit_2(serve, tmp_path):
    code = """
    class It(Plugin):
        async def start(self):
            raise ConnectionError("no model here")
    """
    process = await serve(SHARED.format(url="http://x/v1") + plugin(tmp_path, code), wait=False)
    assert await process.exits() == 2
    assert process.said.count("plugin unlucky cannot start: ConnectionError: no model here") == 1


async def test_a_port_is_not_shared_with_strangers(serve):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        process = await serve(SHARED.format(url="http://x/v1"), "--port", str(port), wait=False)
        assert await process.exits() == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in process.said
    assert "Traceback" not in process.said


async def test_each_worker_is_an_instance_and_all_know_a_caller_by_one_name(streaming, collector):
    process, clients, release = await streaming(20, f'telemetry.endpoint = "{collector.url}"')
    assert len(by_worker(process, clients)) == 2
    release.set()
    assert all([await ended(client) for client in clients])
    process.terminate()
    assert await process.exits() == 0
    instances = {span.resource["service.instance.id"] for span in collector.spans}
    assert len(instances) == 2
    assert len(collector.spans) == 60
    assert len({turn["caller"] for turn in await process.turns(20)}) == 1


async def test_long_lines_of_the_turn_log_stay_whole(serve, upstream):
    """A line that is longer than a pipe takes at once is not mixed with another worker's."""
    read_end, write_end = os.pipe()
    toml = SHARED.format(url=(await upstream()).url)
    process = await serve(toml, stdout=write_end)
    os.close(write_end)

    async def send():
        async with await process.connect() as client:
            for _ in range(20):
                await client.send(request(chat_body(model="m" * 9_000)))
                assert (await client.answer()).status == 200

    logged = b""
    os.set_blocking(read_end, False)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(send())
        async with asyncio.timeout(30):
            while logged.count(b"\n") < 160:
                await asyncio.sleep(0.002)  # slower than they write
                try:
                    logged += os.read(read_end, 3_000)
                except BlockingIOError:
                    continue
    os.close(read_end)
    lines = [msgspec.json.decode(line) for line in logged.splitlines()]
    assert {len(line["model"]) for line in lines} == {9_000}
    assert len({line["request_id"] for line in lines}) == 160
