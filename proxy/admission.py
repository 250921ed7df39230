"""Who may go past the chain: plugins are asked before a request to another path goes on.

The chain serves chat completions alone.  A plugin that limits or counts has an `admit`, which is
called for every other request under the same promises: its own clock, its `on_error`, its `match`,
shadow mode; a refusal that it means always passes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from . import tasks
from .errors import APIError, PluginUnavailable
from .exchange import Mark
from .layer import is_meant, report, run
from .own_time import OwnTime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .exchange import Caller, Exchange, OnFinish, OnUsage
    from .layer import Layer
    from .usage import Report


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A request to another path than chat completions, before anything has reached the upstream.

    Its body is not here: it goes on as it comes, and may be long.
    """

    id: str
    """The request id, also the `x-request-id` the client sees."""
    caller: Caller
    """Who asks: the tenant key for limits, never the raw API key."""
    session: str | None
    """The conversation this request belongs to, where the client names one."""
    options: Mapping[str, str]
    """The client's `x-dragoman-*` headers, by their name without the prefix."""
    method: str
    path: str
    """The path as a lenient server reads it, in lower case: by another spelling none is another."""
    is_websocket: bool
    """The request opens a WebSocket, and lasts as long."""
    carries_messages: bool
    """Messages to a model travel there, as on /v1/responses, or what they lead to."""
    model: str | None
    """As the path, the query of a WebSocket or a short JSON body names it.  None: it is not named
    there, or somewhere where nobody looks."""
    exchange: Exchange = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that the answer is to have, in place of the upstream's."""
    is_rehearsal: bool = False
    """The plugin runs in shadow mode: the headers lead nowhere, and it cannot end anything."""

    @property
    def may_be_any_model(self) -> bool:
        """Can it reach a model that nobody can see here?  Then limits on models should hold."""
        if self.model is not None or not self.carries_messages:
            return False
        return self.is_websocket or self.method not in ("DELETE", "GET", "HEAD", "OPTIONS")

    def on_finish(self, callback: OnFinish) -> None:
        """Call back once when the exchange has ended, however it ends."""
        self.exchange.callbacks.append(callback)

    def on_usage(self, callback: OnUsage) -> None:
        """Call back with the usage that the answer reports, if it does: once before on_finish, or
        after each answer of a WebSocket.  An APIError that this raises ends the WebSocket."""
        if self.is_rehearsal:
            callback = partial(_without_verdict, callback)
        self.exchange.usage_callbacks.append(callback)


class Admission:
    """Asks the plugins that have an `admit`, the outermost first."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = [layer for layer in layers if layer.plugin.sees_forwarded()]

    @property
    def asks_nobody(self) -> bool:
        return not self._layers

    async def admit(self, forwarded: Forwarded) -> None:
        """The APIError of whoever refuses it; PluginUnavailable if one that is `closed` fails."""
        for layer in self._layers:
            if layer.matches is not None and not layer.matches(forwarded):
                continue
            if layer.shadow:
                rehearsal = _rehearse(layer, replace(forwarded, headers={}, is_rehearsal=True))
                name = f"shadow {layer.name}"
                forwarded.exchange.rehearsals.append(tasks.start(rehearsal, name=name))
            else:
                await _ask(layer, forwarded)


async def _ask(layer: Layer, forwarded: Forwarded) -> None:
    exchange = forwarded.exchange
    mark = Mark(layer.name, "request", exchange.now_ns())
    exchange.marks.append(mark)
    try:
        await _run(layer, forwarded, mark)
    except BaseException as error:
        if is_meant(error):
            if isinstance(error, APIError):
                mark.outcome = "reject"
                exchange.source = layer.name
            raise
        report(layer, mark, error)
        if layer.on_error == "closed":
            raise PluginUnavailable(f"The {layer.name} plugin is unavailable.") from error


async def _rehearse(layer: Layer, forwarded: Forwarded) -> None:
    """Note what the plugin would have done."""
    mark = Mark(layer.name, "request", forwarded.exchange.now_ns())
    mark.attributes["dragoman.plugin.mode"] = "shadow"
    forwarded.exchange.marks.append(mark)
    try:
        await _run(layer, forwarded, mark)
    except BaseException as error:
        if isinstance(error, APIError):
            mark.outcome = "reject"
        elif is_meant(error):
            raise
        else:
            report(layer, mark, error)


async def _run(layer: Layer, forwarded: Forwarded, mark: Mark) -> None:
    clock = OwnTime(layer.timeout)
    await run(layer, forwarded.exchange, mark, clock, lambda it: it.admit(forwarded))


async def _without_verdict(callback: OnUsage, told: Report) -> None:
    with suppress(APIError):
        await callback(told)
