"""Stands between the proxy and a store that may be slow or gone, so that neither waits long."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions

from proxy import tasks
from proxy.breaker import Breaker
from proxy.throttle import Throttle

from .clients import CONNECT_SECONDS, CONNECTIONS
from .contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.telemetry import Metrics

    from .clients import Client

T = TypeVar("T")
log = logging.getLogger("dragoman.store")

FAILURES = 2
"""So many in a row, and the store is gone: what hangs costs a client two timeouts, not more."""

PAUSE = 1.0
"""Seconds after which a store that is gone is looked for again."""

CALM = 10.0
"""Seconds without a loss, after which one is looked into at once: where it was this process that
stood still, the store is there.  One that comes and goes has to wait."""

_OUTCOMES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "full"),
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.AuthenticationError, "refused"),
    (exceptions.NoPermissionError, "refused"),
    (exceptions.AskError, "moved"),
    (exceptions.ClusterError, "moved"),
    (exceptions.ResponseError, "error"),
    (exceptions.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (exceptions.RedisClusterException, "unreachable"),
    (exceptions.ConnectionError, "unreachable"),
    (OSError, "unreachable"),
)


class Guard:
    """Limits operations in time and number, counts them, and tries none while the store is gone."""

    def __init__(self, client: Client, name: str, *, timeout: float, metrics: Metrics) -> None:
        self._client = client
        self._name = name
        self._timeout = timeout
        self._operations = metrics.counter(
            "store_operations", "Operations on the shared store.", ("operation", "outcome")
        )
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._breaker = Breaker(failures=FAILURES)
        self._throttle = Throttle()
        self._recovery: asyncio.Task[None] | None = None
        self._lost = -math.inf

    async def start(self) -> None:
        """Connect.  A store that is not there is looked for until it is."""
        try:
            await self._connect()
        except Exception as error:
            while not self._breaker.failed():
                pass
            self._lose(error)

    async def close(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        with suppress(Exception):  # a connection that hangs does not close
            await self._client.close()

    async def run(self, operation: str, function: Callable[..., Awaitable[T]], *given: Any) -> T:
        """What the function returns for what is given.  StoreUnavailable if it does not, in time."""
        if self._breaker.is_open:
            self._count(operation, "gone")
            raise StoreUnavailable("the store is gone")
        clock = asyncio.get_running_loop().time
        began = math.inf
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                began = clock()
                result = await function(*given)
        except Exception as error:
            # What waited for its turn for most of its time says nothing about the store.
            busy = isinstance(error, TimeoutError) and clock() - began < self._timeout / 2
            outcome = "busy" if busy else outcome_of(error)
            self._count(operation, outcome)
            self._failed(operation, outcome, error)
            unavailable = StoreUnavailable(f"the store did not {operation}: {outcome}")
            is_answer = isinstance(error, exceptions.ResponseError)
            unavailable.may_be_done = began < math.inf and not is_answer
            raise unavailable from error
        self._answered()
        self._count(operation, "ok")
        return result

    def _count(self, operation: str, outcome: str) -> None:
        self._operations.labels(operation, outcome).inc()

    def _answered(self) -> None:
        if not self._breaker.is_open:  # else an answer is late, and recovery is on its way
            self._breaker.succeeded()

    def _failed(self, operation: str, outcome: str, error: Exception) -> None:
        if outcome == "busy":
            pass  # that was us
        elif isinstance(error, exceptions.ResponseError) and outcome != "read_only":
            self._answered()  # it is there, and says no
        elif self._breaker.failed():
            self._lose(error)
            return
        if self._throttle.allows(outcome):
            text = "store %s: %s failed: %s (%s)"
            log.warning(text, self._name, operation, outcome, _kind(error))

    def _lose(self, error: Exception) -> None:
        """The store is gone: say so once a minute, and look for it."""
        said = self._throttle.allows("gone")
        if said:
            log.warning("store %s is gone (%s); plugins do without it", self._name, _kind(error))
        last, self._lost = self._lost, asyncio.get_running_loop().time()
        pause = PAUSE if self._lost - last < CALM else 0
        self._recovery = tasks.start(self._recover(pause, told=said), name="store: recovery")

    async def _recover(self, pause: float, *, told: bool) -> None:
        while True:
            await asyncio.sleep(pause)
            pause = PAUSE
            try:
                await self._connect()
            except Exception as error:
                log.debug("store %s is still gone: %s", self._name, type(error).__name__)
                continue
            self._breaker.succeeded()
            if told:
                log.info("store %s is back", self._name)
            return

    async def _connect(self) -> None:
        """Connect anew, which may take a while; then it has to answer as fast as it should."""
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._client.reconnect()
        async with asyncio.timeout(self._timeout):
            await self._client.ping()


def outcome_of(error: Exception) -> str:
    """The word for a failure, in metrics and logs."""
    return next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "error")


def _kind(error: Exception) -> str:
    """The name of an error, or of the system's behind it: texts of the client may hold keys."""
    cause = error.__context__
    return type(cause if isinstance(cause, OSError) else error).__name__
