"""Fixtures: `proxy` and `upstream` are factories; what they start is stopped after the test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.support.collector import Collector
from tests.support.process import Process
from tests.support.proxy import RunningProxy, start_proxy
from tests.support.redis import running
from tests.support.upstream import RawUpstream, chat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.support.redis import Server
    from tests.support.upstream import Script


# Examples are few and slow machines many: no test here is about time.
# The same ones in each run, so that a red run says something of the change that it is about;
# HYPOTHESIS_SEARCH=1 looks for others.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=100,
    derandomize="HYPOTHESIS_SEARCH" not in os.environ,
)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks() -> Iterator[None]:
    """A blocking call on the event loop that comes from our code fails the test."""
    with blockbuster_ctx(scanned_modules=["proxy", "plugins"]) as blocking:
        # It writes only what poll() says there is room for.
        blocking.functions["os.write"].can_block_in("telemetry/turns.py", "_write")
        yield


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[RawUpstream]]]:
    """Start an upstream whose script answers each request; without one, it chats."""
    started: list[RawUpstream] = []

    async def start(script: Script = chat) -> RawUpstream:
        raw = RawUpstream(script)
        await raw.start()
        started.append(raw)
        return raw

    yield start
    for raw in started:
        await raw.stop()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[RunningProxy]]]:
    """Start a proxy in front of an upstream's URL, with more of a configuration as TOML."""
    started: list[RunningProxy] = []

    async def start(upstream: str, toml: str = "") -> RunningProxy:
        one = await start_proxy(tmp_path, upstream, toml)
        started.append(one)
        return one

    yield start
    for one in started:
        await one.stop()


@pytest.fixture
async def redis() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms: spans are sent at once
    one = Collector()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Start `python -m proxy` with a configuration and more arguments; `wait=False` for one that
    will not come up."""
    started: list[Process] = []

    async def start(toml: str, *arguments: str, wait: bool = True, **options: Any) -> Process:
        file = tmp_path / f"process{len(started)}.toml"
        file.write_text(toml)
        process = await Process.start("-c", str(file), *arguments, folder=tmp_path, **options)
        started.append(process)
        return await process.ready() if wait else process

    yield start
    for process in started:
        await process.kill()
