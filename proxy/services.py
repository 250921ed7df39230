"""What a plugin is given by the house."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .store.namespace import namespaced

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import aiohttp
    from opentelemetry.trace import Tracer

    from .derive import Root
    from .store import Store
    from .tasks import Tasks
    from .telemetry import Metrics, Telemetry
    from .tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one plugin; all but the logger are shared."""

    name: str
    """The plugin's name in the configuration."""
    tokens: Tokenizer
    """Counts tokens as the upstream does."""
    http: aiohttp.ClientSession
    """For calls of the plugin's own, to services other than the upstream."""
    store: Store
    """Keeps bytes for a time, for all processes if the operator says so; no other plugin sees them."""
    tracer: Tracer
    """For spans below the plugin's own; it does nothing where no traces are taken."""
    metrics: Metrics
    """`counter(name, documentation, labels)` makes a `dragoman_{name}_total`."""
    log: logging.Logger
    tasks: Tasks
    upstream: str
    """The base URL of the API that chat completions go to."""
    secret: bytes = field(repr=False)
    """For keyed hashes of this plugin: the same in all processes that share a store."""

    @classmethod
    def of(
        cls,
        name: str,
        *,
        tokens: Tokenizer,
        http: aiohttp.ClientSession,
        store: Store,
        telemetry: Telemetry,
        tasks: Tasks,
        upstream: str,
        root: Root,
    ) -> Services:
        """The services of one plugin, out of those that all share."""
        return cls(
            name=name,
            tokens=tokens,
            http=http,
            store=namespaced(store, f"dragoman:{name}:"),
            tracer=telemetry.tracer,
            metrics=telemetry.metrics,
            log=logging.getLogger(f"dragoman.plugins.{name}"),
            tasks=tasks,
            upstream=upstream,
            secret=root.secret(f"plugin {name}"),
        )

    def defer(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> bool:
        """Run it after the response; drained at shutdown.  False if the queue is full."""
        return self.tasks.defer(coroutine, name=f"{self.name}: {name}")
