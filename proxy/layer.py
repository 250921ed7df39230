"""A plugin as the chain runs it: under its own clock, and with what its failure leads to."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import tasks, telemetry
from .errors import APIError, ConfigError, PluginContractError
from .exchange import CURRENT_MARK
from .throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .admission import Forwarded
    from .exchange import Exchange, Mark
    from .own_time import OwnTime
    from .plugin import Plugin
    from .wire import ChatRequest

T = TypeVar("T")
log = logging.getLogger("dragoman.chain")
_tracebacks = Throttle()


@dataclass(frozen=True, slots=True)
class Layer:
    """A plugin with the keys that every `[[plugins]]` table takes."""

    plugin: Plugin[Any]
    name: str
    timeout: float | None = 1.0
    on_error: Literal["open", "closed"] = "closed"
    shadow: bool = False
    matches: Callable[[ChatRequest | Forwarded], bool] | None = None


async def start(layer: Layer, before: Plugin[Any] | None = None) -> None:
    """Start a plugin, perhaps in the place of one that has its name.

    ConfigError if it cannot: what a ConfigError of its own says, or what broke, and then the log
    has the traceback.
    """
    try:
        if type(before) is type(layer.plugin):
            layer.plugin.inherit(before)
        await layer.plugin.start()
    except Exception as error:
        reasons: Sequence[str]
        if isinstance(error, ConfigError):
            reasons = error.problems
        else:
            log.exception("plugin %s cannot start", layer.name)
            reasons = [f"{type(error).__name__}: {error}"]
        problems = [f"plugin {layer.name} cannot start: {reason}" for reason in reasons]
        raise ConfigError(problems) from error


async def run(
    layer: Layer,
    exchange: Exchange,
    mark: Mark,
    clock: OwnTime,
    work: Callable[[Plugin[Any]], Awaitable[T]],
) -> T:
    """Let the plugin of a layer work.  TimeoutError if that takes longer than it may."""
    start = clock.since = time.perf_counter()
    token = CURRENT_MARK.set(mark)
    try:
        with telemetry.parent_for_plugin(exchange.trace, mark):
            result = await work(layer.plugin)
        clock.withdraw()
    except BaseException as caught:
        error = clock.verdict(caught)
        if error is caught:
            raise
        raise error from caught
    else:
        return result
    finally:
        clock.stop()
        CURRENT_MARK.reset(token)
        mark.own_seconds = time.perf_counter() - start
        mark.end_ns = exchange.now_ns()


def is_meant(error: BaseException) -> bool:
    """Is it a refusal, or the end of it all, and no failure of the plugin?"""
    return isinstance(error, (APIError, KeyboardInterrupt)) or tasks.is_cancellation(error)


def report(layer: Layer, mark: Mark, error: BaseException) -> None:
    """Note and log that a plugin failed; with a traceback once a minute for each kind."""
    mark.outcome = "error"
    mark.error_type = type(error).__name__
    mark.attributes["dragoman.plugin.on_error"] = layer.on_error
    with_traceback = _tracebacks.allows(layer.name, type(error))
    log.error(
        "plugin %s failed, on_error=%s: %s",
        layer.name,
        layer.on_error,
        error if isinstance(error, PluginContractError) else type(error).__name__,
        exc_info=error if with_traceback else None,
    )
