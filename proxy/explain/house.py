"""What plugins need of a proxy, without its listeners and its upstream: they run, nothing leaves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from proxy import prices
from proxy.callers import Callers
from proxy.connections import Connections
from proxy.derive import Root
from proxy.keys.snapshot import Snapshot
from proxy.keys.table import KeyTable
from proxy.layer import start
from proxy.metering import Meter
from proxy.registry import build_layers
from proxy.services import Services
from proxy.store import open_store
from proxy.tasks import Tasks
from proxy.telemetry import Telemetry
from proxy.tokens import Tokenizer
from proxy.usage import Usage

from .account import Prompt
from .overlay import Overlay
from .witness import Step

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

    from proxy.config import Configuration
    from proxy.layer import Layer
    from proxy.store import Store
    from proxy.wire import ChatRequest

STOP_SECONDS = 5.0
"""How long a plugin's stop() may take."""


class House:
    """The plugins of a configuration with their services, from `async with` to its end."""

    def __init__(self, configuration: Configuration) -> None:
        settings, upstream = configuration.settings, configuration.settings.upstream
        self.steps: list[Step] = []
        self._configuration = configuration
        self._root = Root(settings.store.secret)
        self._stack = AsyncExitStack()
        self._telemetry = Telemetry(settings)  # never started: it tells nobody
        self._tokens = Tokenizer(encodings=settings.tokens.encodings)
        self._connections = Connections(upstream)
        self._base_url = str(upstream.base_url)
        self._provider = upstream.provider if "provider" in upstream.model_fields_set else None
        self.meter = Meter(self._tokens, self._telemetry.metrics, self._base_url)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        self._stack.callback(self._tokens.close)
        await self._connections.start()
        self._stack.push_async_callback(self._connections.close)
        store = await open_store(self._configuration.settings.store, self._telemetry.metrics)
        self._stack.push_async_callback(store.close)
        self.callers = await self._callers(store)
        deferred: dict[str, list[str]] = {}

        def services(name: str) -> Services:
            return self._services(store, name, deferred.setdefault(name, []))

        for layer in build_layers(self._configuration.plugins, services):
            self._stack.push_async_callback(_stop, layer)
            await start(layer)
            self.steps.append(Step(layer, deferred[layer.name]))

    async def _callers(self, store: Store) -> Callers:
        settings, stored = self._configuration.settings, None
        if settings.store.keys:
            stored = Snapshot(KeyTable(store), self._telemetry.metrics)
            await stored.refresh()
        return Callers(
            settings.keys,
            ours_only=settings.upstream.api_key is not None,
            secret=self._root.secret("callers"),
            stored=stored,
        )

    def _services(self, store: Store, name: str, deferred: list[str]) -> Services:
        return Services.of(
            name,
            tokens=self._tokens,
            http=self._connections.session,
            store=Overlay(store),
            telemetry=self._telemetry,
            tasks=_Dropped(deferred),
            upstream=self._base_url,
            root=self._root,
        )

    async def prompt(self, request: ChatRequest) -> Prompt:
        """A request in numbers."""
        count = await self.meter.prompt(request)
        cost = await asyncio.to_thread(
            prices.cost,
            request.model,
            Usage(count.tokens, 0),
            provider=self._provider,
            base_url=self._base_url,
        )
        return Prompt(len(request.messages), count.tokens, count.exactness, cost)


class _Dropped(Tasks):
    """Takes work that is deferred, and does not do it."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def defer(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> bool:
        coroutine.close()
        self._names.append(name.partition(": ")[2] or name)
        return True


async def _stop(layer: Layer) -> None:
    with suppress(Exception):
        async with asyncio.timeout(STOP_SECONDS):
            await layer.plugin.stop()
