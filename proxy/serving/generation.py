"""What one reading of the configuration has led to: the plugins, their chain, the edge before it.

A configuration that is read again makes another generation.  Requests that have begun stay with
theirs to the end, with its settings and keys.  A plugin whose table and files are as they were is
in both.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.admission import Admission
from proxy.callers import Callers
from proxy.chain import build
from proxy.connections import Connections
from proxy.edge import Edge
from proxy.endpoints import Endpoints
from proxy.layer import start
from proxy.pacing import Pacer
from proxy.passthrough import Passthrough
from proxy.registry import build_layers
from proxy.services import Services
from proxy.settlement import Settlement
from proxy.tasks import is_cancellation
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.body import BodyBudget
    from proxy.config import Configuration
    from proxy.derive import Root
    from proxy.keys.snapshot import Snapshot
    from proxy.layer import Layer
    from proxy.metering import Meter
    from proxy.settings import Settings
    from proxy.settings import Upstream as UpstreamSettings
    from proxy.store import Store
    from proxy.tasks import Tasks
    from proxy.telemetry import Metrics, Telemetry
    from proxy.tokens import Tokenizer

log = logging.getLogger("dragoman")

STOP_SECONDS = 5.0
"""How long a plugin's stop() may take."""


@dataclass(frozen=True, slots=True)
class House:
    """What all generations have in common."""

    telemetry: Telemetry
    tokens: Tokenizer
    meter: Meter
    tasks: Tasks
    root: Root
    store: Store
    stored: Snapshot | None
    """The keys that are in the store."""
    budget: BodyBudget
    connections: Connections
    """For what plugins call, and to the upstream while its settings are those of the start."""


class Generation:
    """Serves requests by one configuration, from start() to close()."""

    edge: Edge
    endpoints: Endpoints

    def __init__(
        self, configuration: Configuration, house: House, before: Generation | None = None
    ) -> None:
        self.configuration = configuration
        self._house = house
        upstream = configuration.settings.upstream
        self._connects_anew = before is not None and before.settings.upstream != upstream
        self.connections: Connections = before.connections if before else house.connections
        if self._connects_anew:
            self.connections = Connections(upstream)
            pace(self.connections, upstream, house.store, house.telemetry.metrics)
        kept = {} if before is None else before.kept_by(configuration)
        self.layers = build_layers(configuration.plugins, self._services, kept)
        self._new = [layer for layer in self.layers if layer.name not in kept]
        self._before = {} if before is None else {each.name: each.plugin for each in before.layers}

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    def kept_by(self, configuration: Configuration) -> dict[str, Layer]:
        """The plugins that another configuration would make in the same way."""
        return {
            chosen.name: layer
            for chosen, layer in zip(self.configuration.plugins, self.layers, strict=True)
            if any(chosen.same_as(each) for each in configuration.plugins)
        }

    def _services(self, name: str) -> Services:
        house = self._house
        return Services.of(
            name,
            tokens=house.tokens,
            http=house.connections.session,
            store=house.store,
            telemetry=house.telemetry,
            tasks=house.tasks,
            upstream=str(self.settings.upstream.base_url),
            root=house.root,
        )

    def _edge(self) -> Edge:
        house, settings, layers = self._house, self.settings, self.layers
        telemetry = house.telemetry
        self.connections.propagate = settings.telemetry.propagate_upstream
        upstream = Upstream(
            self.connections,
            settings.upstream,
            transparent=not layers,
            count=settings.telemetry.estimate_usage,
            capture=telemetry.captures_content,
        )
        return Edge(
            settings.server,
            Callers(
                settings.keys,
                ours_only=settings.upstream.api_key is not None,
                secret=house.root.secret("callers"),
                stored=house.stored,
            ),
            build(layers, upstream, house.meter.local),
            Passthrough(
                self.connections,
                settings.server,
                telemetry.metrics,
                Admission(layers),
                house.budget,
            ),
            self.endpoints,
            telemetry,
            Settlement(settings, house.meter, house.tasks, telemetry),
            house.budget,
            transparent=not layers,
        )

    async def start(self) -> None:
        """Start what is new.  If a plugin cannot, what was started is stopped; ConfigError."""
        if self._connects_anew:
            await self.connections.start()
        begun: list[Layer] = []
        try:
            for layer in self._new:
                begun.append(layer)
                await start(layer, self._before.get(layer.name))
            self._before.clear()
            offered = (each for layer in self.layers for each in layer.plugin.endpoints())
            self.endpoints = Endpoints(offered, self._house.budget)
        except BaseException:
            await _stop_all(begun)
            if self._connects_anew:
                await self.connections.close()
            raise
        self.edge = self._edge()

    async def ended(self) -> None:
        """Wait for the requests that have begun."""
        while self.edge.active:
            await asyncio.wait(set(self.edge.active))

    async def close(self, after: Generation | None = None) -> None:
        """Stop the plugins, and close the connections, that the generation after it does without."""
        kept = {id(layer) for layer in after.layers} if after else set()
        await _stop_all([layer for layer in self.layers if id(layer) not in kept])
        if self.connections not in (self._house.connections, after and after.connections):
            await self.connections.close()


def pace(
    connections: Connections, settings: UpstreamSettings, store: Store, metrics: Metrics
) -> None:
    """Let requests wait for their turn, if the settings say so."""
    if settings.pace.requests is not None:
        connections.pacer = Pacer(settings, store, metrics)


async def _stop_all(layers: Sequence[Layer]) -> None:
    for layer in reversed(layers):
        await _stop(layer)


async def _stop(layer: Layer) -> None:
    """Stop a plugin; if it fails, the others are still to be stopped."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await layer.plugin.stop()
    except BaseException as error:
        if is_cancellation(error):
            raise
        log.exception("plugin %s did not stop: %s", layer.name, type(error).__name__)
