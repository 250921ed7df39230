"""The workers of a proxy that runs in processes of its own: who they are, and whom they serve."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import psutil

from .raw import Client, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .process import Process

SHARED = """
upstream.base_url = "{url}"
server.port = 0
server.admin_port = 0
server.workers = 2
store.url = "redis://127.0.0.1:1"
telemetry.estimate_usage = false
"""
"""Two workers.  Their store is not there: who needs one says so."""


def workers(process: Process) -> list[psutil.Process]:
    """Those that run, the oldest first."""
    children = psutil.Process(process.pid).children()
    return sorted(children, key=lambda child: child.create_time())


def by_worker(process: Process, clients: Sequence[Client]) -> dict[int, list[Client]]:
    """The clients of each worker, by its pid."""
    served: defaultdict[int, list[Client]] = defaultdict(list)
    at = {client.writer.get_extra_info("sockname")[1]: client for client in clients}
    for worker in workers(process):
        for connection in worker.net_connections("tcp"):
            if connection.raddr and connection.raddr.port in at:
                served[worker.pid].append(at[connection.raddr.port])
    return served


async def samples_when(process: Process, name: str, value: float) -> dict[str, float]:
    """What /metrics says when it says this: an answer is counted after it was sent, and the worker
    that is asked may be quicker than the one that answered."""
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(10):
            while (found := await samples(process)).get(name) != value:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{name} is {found.get(name)}, not {value}") from None
    return found


async def samples(process: Process, accept: str = "text/plain") -> dict[str, float]:
    """What /metrics of any worker says."""
    async with await Client.open(process.admin_port) as client:
        await client.send(request(None, ("Accept", accept), method="GET", target="/metrics"))
        answer = await client.answer()
    assert answer.status == 200
    return {
        match[1]: float(match[2])
        for match in re.finditer(r"^(\w+(?:\{.*?\})?) (\S+)", answer.body.decode(), re.MULTILINE)
    }
