"""A proxy in a process of its own, as an operator runs it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from .raw import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
_ADDRESS = re.compile(r"^dragoman .*http://127\.0\.0\.1:(\d+)/v1 -> ", re.MULTILINE)
_ADMIN = re.compile(r"^admin http://127\.0\.0\.1:(\d+)/", re.MULTILINE)


class Process:
    """A running `python -m proxy`; kill() ends it whatever it does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said = ""
        """What it wrote to stderr."""
        self.logged = b""
        """What it wrote to stdout, where that is read."""
        self._news = asyncio.Event()
        self._listening = [asyncio.create_task(self._listen_to_stderr())]
        if process.stdout is not None:
            self._listening.append(asyncio.create_task(self._listen_to_stdout()))

    @classmethod
    async def start(
        cls,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stdout: int = asyncio.subprocess.PIPE,
        prefix: tuple[str, ...] = (),
    ) -> Self:
        """`prefix` is a command that runs the rest, such as prlimit."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DRAGOMAN_", "OTEL_", "PYTEST", "COV"))
        }
        return cls(
            await asyncio.create_subprocess_exec(
                *prefix,
                sys.executable,
                "-m",
                "proxy",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **(environ or {})},
                start_new_session=True,
            )
        )

    async def _listen_to_stderr(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65_536):
            self.said += data.decode(errors="replace")
            self._news.set()
        self._news.set()

    async def _listen_to_stdout(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(65_536):
            self.logged += data
            self._news.set()

    async def hears(self, pattern: str, seconds: float = 15) -> re.Match[str]:
        """Wait until it has said on stderr what the pattern asks for."""
        return await self._until(lambda: re.search(pattern, self.said, re.MULTILINE), seconds)

    async def _until(self, condition: Any, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                while not (found := condition()):
                    self._news.clear()
                    assert not self._listening[0].done(), f"it ended, and said:\n{self.said}"
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it only said:\n{self.said}") from None
        return found

    async def ready(self) -> Self:
        """Wait until it serves."""
        await self.hears(_ADMIN.pattern)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return self._port(_ADDRESS)

    @property
    def admin_port(self) -> int:
        return self._port(_ADMIN)

    def _port(self, pattern: re.Pattern[str]) -> int:
        match = pattern.search(self.said)
        assert match is not None, self.said
        return int(match[1])

    async def connect(self) -> Client:
        """A raw connection to the API."""
        return await Client.open(self.port)

    async def turns(self, count: int = 1, seconds: float = 5) -> list[dict[str, Any]]:
        """All lines of the turn log so far, when there are so many of them."""
        await self._until(lambda: self.logged.count(b"\n") >= count, seconds)
        return [msgspec.json.decode(line) for line in self.logged.splitlines()]

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def exits(self, seconds: float = 20) -> int:
        """Wait for its end, and for its last words; the exit code."""
        try:
            async with asyncio.timeout(seconds):
                code = await self._process.wait()
                for task in self._listening:
                    await task
        except TimeoutError:
            raise AssertionError(f"it does not end; it said:\n{self.said}") from None
        return code

    async def kill(self) -> None:
        """End it, and what it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        for task in self._listening:
            await task
