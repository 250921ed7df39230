"""What is compared: the bare proxy, and ours in several configurations; each is a process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from . import bodies, machine
from .load import Load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .upstream import Upstream

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 5.0

SAMPLING = """
[[plugins]]
use = "sampling"
defaults.top_p = 0.9
limits.temperature = [0.0, 1.0]
"""
COUNTING = """
[tokens]
verify = 1.0
"""


@dataclass(frozen=True, eq=False)
class Target:
    """One configuration."""

    name: str
    title: str
    """What the tables call it."""
    toml: str | None = ""
    """Ours, with this configuration; None: not ours."""
    adds: Mapping[str, Any] = field(default_factory=dict)
    """What the upstream shall find in a body beside what the client sent."""
    traces: float = 0.0
    """The share of requests that are traced."""


TOP_P = {"top_p": 0.9}
DIRECT = Target("direct", "no proxy", toml=None)
BARE = Target("bare", "bare aiohttp proxy", toml=None)
OURS = Target("ours", "ours")
SAMPLED = Target("sampling", "ours, `sampling`", SAMPLING, TOP_P)
TRACED = Target("traces-10", "ours, `sampling`, 10 % of traces", SAMPLING, TOP_P, 0.1)
ALL_TRACED = Target("traces-100", "ours, `sampling`, every trace", SAMPLING, TOP_P, 1.0)
COUNTED = Target("counting", "ours, every prompt counted", COUNTING)

TARGETS = (DIRECT, BARE, OURS, SAMPLED, TRACED, ALL_TRACED, COUNTED)


class Running:
    """A target that serves on a port."""

    def __init__(self, target: Target, port: int) -> None:
        self.target = target
        self.name = target.name
        self.port = port
        self.start_seconds = 0.0
        self._turns = 0
        self._expected_turns = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def cpu(self) -> float:
        return machine.cpu(self.pid) if self.pid else 0.0

    def rss(self) -> int:
        return machine.rss(self.pid) if self.pid else 0

    async def start(self, folder: Path, upstream: Upstream) -> None:
        """Start it on its core, and note the seconds from exec to its first answer."""
        upstream.answers(bodies.SMALL)
        command, environ = _command(self.target, self.port, upstream.port, folder)
        log = folder / f"{self.port}.log"
        with machine.pinned(machine.TARGET_CORE), log.open("wb") as stderr:
            start = perf_counter()
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=environ,
                start_new_session=True,  # Ctrl-C is for us
            )
        self._reading = asyncio.get_running_loop().create_task(self._read_turns())
        while not await self._answers():
            if self._process.returncode is not None or perf_counter() - start > START_SECONDS:
                raise RuntimeError(f"{self.name} does not start:\n{log.read_text()}")
            await asyncio.sleep(0.004)
        self.start_seconds = perf_counter() - start
        await self.has_logged(1)
        await self.settle()

    async def _answers(self) -> bool:
        request = bodies.request(bodies.SMALL.body())
        load = Load(self.port, request, bodies.answer(bodies.SMALL), each=1)
        await load.run()
        return not load.wrong

    async def _read_turns(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while lines := await self._process.stdout.read(1 << 16):
            self._turns += lines.count(b"\n")

    async def has_logged(self, answers: int) -> bool:
        """Has its turn log so many lines more, now or soon?  Only ours has one."""
        if self.target.toml is None:
            return True
        self._expected_turns += answers
        for _ in range(200):
            if self._turns >= self._expected_turns:
                break
            await asyncio.sleep(0.025)
        return self._turns == self._expected_turns

    async def settle(self) -> None:
        """Wait until it has worked off what the load left behind, such as traces to export."""
        quiet = 0
        for _ in range(400):
            before = self.cpu()
            await asyncio.sleep(0.025)
            quiet = quiet + 1 if self.cpu() - before < 0.001 else 0
            if quiet == (7 if self.target.traces else 2):  # traces come in batches, see below
                return

    async def stop(self) -> None:
        """End it: as a service manager would, and then however it takes."""
        process = self._process
        if process is None:
            return
        try:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if self._reading is not None:
                await self._reading


def running(targets: Iterable[Target], upstream: int) -> list[Running]:
    """The targets, each with a port."""
    return [Running(each, upstream if each is DIRECT else _free_port()) for each in targets]


def _command(
    target: Target, port: int, upstream: int, folder: Path
) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of a target."""
    api = f"http://127.0.0.1:{upstream}"
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DRAGOMAN_", "OTEL_", "PYTEST", "COV"))
    }
    environ["PYTHONPATH"] = str(ROOT)
    if target.toml is None:
        return [sys.executable, "-m", "benchmarks.bare", str(port), api], environ
    if target.traces:
        environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": api,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(target.traces),
            # At full load more traces are made than are sent meanwhile.  Each shall be paid for,
            # and within the measure.
            "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
            "OTEL_BSP_SCHEDULE_DELAY": "150",
        }
    file = folder / f"{port}.toml"
    file.write_text(f'[upstream]\nbase_url = "{api}/v1"\n{target.toml}')
    flags = ["-c", str(file), "--port", str(port), "--admin-port", "0"]
    return [sys.executable, "-m", "proxy", *flags], environ


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
