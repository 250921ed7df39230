"""The contract is kept on the event loop that `dragoman serve` runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.support.both import Both
from tests.support.like_openai import speak
from tests.support.moderation import LISTS, fine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from tests.support.proxy import RunningProxy
    from tests.support.upstream import RawUpstream


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def plain(proxy: Callable[..., Awaitable[RunningProxy]]) -> Callable[..., Awaitable[RunningProxy]]:
    """As `proxy`, but it counts no tokens: a proxy needs a second to learn that."""

    async def start(upstream: str, toml: str = "") -> RunningProxy:
        return await proxy(upstream, "telemetry.estimate_usage = false\n" + toml)

    return start


@pytest.fixture
def moderating(
    proxy: Callable[..., Awaitable[RunningProxy]],
    upstream: Callable[..., Awaitable[RawUpstream]],
) -> Callable[..., Awaitable[tuple[RawUpstream, RunningProxy]]]:
    """Starts an upstream with a script, and a proxy that moderates with these tables."""

    async def start(tables: str = LISTS, script: Any = fine) -> tuple[RawUpstream, RunningProxy]:
        up = await upstream(script)
        return up, await proxy(up.url, tables)

    return start


@pytest.fixture
async def both(
    plain: Callable[..., Awaitable[RunningProxy]],
    upstream: Callable[..., Awaitable[RawUpstream]],
) -> Both:
    """An upstream that speaks like OpenAI, and a proxy without plugins in front of it."""
    up = await upstream(speak)
    return Both(up.url, (await plain(up.url)).base_url)
