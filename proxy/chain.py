"""The onion: plugins around the upstream call, and what the chain promises about each of them.

`call_next` works once.  A clock counts only a plugin's own time.  A plugin that fails changes the
exchange no further than its `on_error` says; a refusal that it means always passes.  What a plugin
did is noted, so that no author has to.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from . import tasks
from .answer import LocalEvents
from .errors import APIError, PluginContractError, PluginUnavailable
from .exchange import Mark
from .layer import is_meant, report, run
from .own_time import OwnTime
from .response import ChatResponse, FullResponse, StreamResponse, closing
from .watch import AnswerFacts
from .wire import ChatRequest, Chunk

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Sequence,
    )
    from typing import TypeAlias

    from .exchange import Phase
    from .layer import Layer
    from .plugin import CallNext
    from .response import Transform
    from .usage import Usage

    CountAnswer: TypeAlias = Callable[[ChatRequest, str], Awaitable[Usage]]


def build(layers: Sequence[Layer], upstream: CallNext, count: CountAnswer) -> CallNext:
    """Wrap the upstream call so that the first layer is the outermost."""
    call = upstream
    for layer in reversed(layers):
        call = Guard(layer, call, count)
    return call


class Next:
    """A `call_next` that works once, and stops its plugin's clock while the rest of the chain runs.

    It works again after it raised or returned an error of the upstream, which is then discarded.
    """

    __slots__ = ("_inner", "_running", "clock", "failure", "inside", "request", "response")

    def __init__(self, inner: CallNext) -> None:
        self._inner = inner
        self._running = False
        self.clock: OwnTime | None = None
        self.inside = 0.0  # seconds spent further in
        self.request: ChatRequest | None = None
        self.response: ChatResponse | None = None
        self.failure: BaseException | None = None

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        if self._running or (self.response is not None and self.response.ok):
            raise PluginContractError("call_next was called twice")
        if not isinstance(request, ChatRequest):
            raise PluginContractError(f"call_next was given {type(request).__name__}")
        if self.response is not None:
            await self.response.close()
            self.response = None
        self._running = True
        self.request = request
        start = time.perf_counter()
        if self.clock is not None:
            self.clock.pause()
        try:
            self.response = await self._inner(request)
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self._running = False
            now = time.perf_counter()
            self.inside += now - start
            if self.clock is not None:
                self.clock.since = now
        return self.response


class Guard:
    """One layer of the onion: a plugin, and what the chain promises about it."""

    __slots__ = ("_count", "_inner", "_layer")

    def __init__(self, layer: Layer, inner: CallNext, count: CountAnswer) -> None:
        self._layer = layer
        self._inner = inner
        self._count = count

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        layer = self._layer
        if layer.matches is not None and not layer.matches(request):
            return await self._inner(request)
        if layer.shadow:
            return await self._shadowed(request)
        mark = Mark(layer.name, "request", request.exchange.now_ns())
        request.exchange.marks.append(mark)
        call_next = Next(self._inner)
        try:
            response = await self._run(request, call_next, mark)
        except BaseException as error:
            response = await self._failed(request, call_next, mark, error)
        else:
            self._note(request, call_next, mark, response)
        return await self._adopt(response, call_next, mark)

    async def _run(self, request: ChatRequest, call_next: Next, mark: Mark) -> ChatResponse:
        """Call the plugin under its clock."""
        layer = self._layer
        clock = call_next.clock = OwnTime(layer.timeout)
        try:
            response = await run(
                layer, request.exchange, mark, clock, lambda it: it.handle(request, call_next)
            )
        finally:
            mark.own_seconds -= call_next.inside
        if not isinstance(response, ChatResponse):
            kind = type(response).__name__
            raise PluginContractError(f"handle() returned {kind}, not a ChatResponse")
        return response

    async def _failed(
        self, request: ChatRequest, call_next: Next, mark: Mark, error: BaseException
    ) -> ChatResponse:
        """Go on as `on_error` says; raise what is no failure of the plugin."""
        inner, failure = call_next.response, call_next.failure
        if error is failure and not self._is_to_blame(request, call_next):
            raise error
        if is_meant(error):
            if isinstance(error, APIError):
                mark.outcome = "reject"
                request.exchange.source = self._layer.name
            if inner is not None:
                await inner.close()
            raise error
        # Native libraries panic with a BaseException of their own (pyo3's, for one).
        report(self._layer, mark, error)
        if self._layer.on_error == "closed":
            if inner is not None:
                await inner.close()
            raise PluginUnavailable(f"The {self._layer.name} plugin is unavailable.") from error
        if inner is not None:
            return inner
        if failure is None or failure is error or isinstance(failure, asyncio.CancelledError):
            return await self._inner(request)
        raise failure

    @staticmethod
    def _is_to_blame(request: ChatRequest, call_next: Next) -> bool:
        """Did what came from further in fail for what this plugin made of the request?"""
        passed_on, failure = call_next.request, call_next.failure
        changed = passed_on is not None and passed_on.changes is not request.changes
        return changed and isinstance(failure, PluginContractError)

    def _note(
        self, request: ChatRequest, call_next: Next, mark: Mark, response: ChatResponse
    ) -> None:
        """Write down what the plugin did with the request."""
        passed_on = call_next.request
        if call_next.response is None and response.source == "local":
            mark.outcome = "respond"
            request.exchange.source = self._layer.name
        elif passed_on is not None and passed_on.changes != request.changes:
            mark.outcome = "modify"
            mark.attributes["dragoman.plugin.changed"] = sorted(
                name
                for name in passed_on.changes
                if name not in request.changes or passed_on.changes[name] != request.changes[name]
            )
            if passed_on.messages is not request.messages:
                request.exchange.rewrites.append((mark, request, passed_on))

    async def _adopt(self, response: ChatResponse, call_next: Next, mark: Mark) -> ChatResponse:
        """Count a local answer, guard what was put around a stream, close what was dropped."""
        inner, layer = call_next.response, self._layer
        if response.uncounted is not None:
            local, response.uncounted = response.uncounted, None
            usage = await self._count(local.request, local.text)
            local.fill(usage)
            facts = response.exchange.facts = AnswerFacts()
            facts.usage, facts.finish_reasons = usage, [local.finish_reason]
        if isinstance(inner, StreamResponse):
            if not isinstance(response, StreamResponse) or response.events is not inner.events:
                await inner.close()
            elif response.transforms != inner.transforms:
                added = response.transforms[len(inner.transforms) :]
                changed = self._second_mark(response, "stream", mark)
                guarded = (guard_stream(transform, layer, changed) for transform in added)
                return response.with_transforms((*inner.transforms, *guarded))
        elif isinstance(inner, FullResponse) and response is not inner and mark.outcome != "error":
            self._second_mark(response, "response", mark)
        return response

    def _second_mark(self, response: ChatResponse, phase: Phase, first: Mark) -> Mark:
        end_ns = first.end_ns if phase == "response" else 0  # a stream's phase ends with it
        start_ns = response.exchange.now_ns()
        mark = Mark(self._layer.name, phase, start_ns, "modify", end_ns=end_ns)
        response.exchange.marks.append(mark)
        return mark

    async def _shadowed(self, request: ChatRequest) -> ChatResponse:
        """Let the plugin run beside the exchange, which goes on as if it were not there."""
        answer: asyncio.Future[ChatResponse] = asyncio.get_running_loop().create_future()
        rehearsal = tasks.start(self._rehearse(request, answer), name=f"shadow {self._layer.name}")
        request.exchange.rehearsals.append(rehearsal)
        try:
            response = await self._inner(request)
        except BaseException as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # it is no loss if the plugin never asks
            raise
        if not answer.done():
            answer.set_result(_copy(response))
        return response

    async def _rehearse(self, request: ChatRequest, answer: asyncio.Future[ChatResponse]) -> None:
        """Note what the plugin would have done.  It gets a copy of the answer; nobody gets its."""
        mark = Mark(self._layer.name, "request", request.exchange.now_ns())
        mark.attributes["dragoman.plugin.mode"] = "shadow"
        request.exchange.marks.append(mark)

        async def recorded(_: ChatRequest) -> ChatResponse:
            return await asyncio.shield(answer)

        call_next = Next(recorded)
        try:
            response = await self._run(request, call_next, mark)
        except APIError as error:
            if error is not call_next.failure:
                mark.outcome = "reject"
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if error is not call_next.failure:
                report(self._layer, mark, error)
        else:
            source = request.exchange.source
            self._note(request, call_next, mark, response)
            request.exchange.source = source


def guard_stream(transform: Transform, layer: Layer, mark: Mark) -> Transform:
    """Let a failure inside a stream go as far as `on_error` says: `closed` ends the stream with an
    error, `open` goes on with the chunks that the plugin has not given back, unchanged.

    The clock starts anew for each chunk, and stops while the plugin waits for the next one.
    """
    return partial(_guarded, transform, layer, mark)


async def _guarded(
    transform: Transform, layer: Layer, mark: Mark, chunks: AsyncIterator[Chunk]
) -> AsyncGenerator[Chunk, None]:
    taken: deque[Chunk] = deque(maxlen=10_000)
    inner_failure: BaseException | None = None
    clock = OwnTime(layer.timeout)

    async def tapped() -> AsyncGenerator[Chunk, None]:
        nonlocal inner_failure
        try:
            clock.since = None
            async for chunk in chunks:
                taken.append(chunk)
                clock.since = time.perf_counter()
                yield chunk
                clock.since = None
        except GeneratorExit:
            raise
        except BaseException as error:
            inner_failure = error
            raise

    try:
        clock.since = time.perf_counter()
        async with aclosing(tapped()) as source, closing(transform(source)) as changed:
            async for result in changed:
                clock.since = None
                yield _given_back(taken, result)
                clock.since = time.perf_counter()
    except (APIError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as caught:
        error = clock.verdict(caught)
        if error is inner_failure or tasks.is_cancellation(error):
            raise
        report(layer, mark, error)
        if layer.on_error == "closed":
            raise PluginUnavailable(f"The {layer.name} plugin is unavailable.") from error
    else:
        if inner_failure is None:
            return
    finally:
        clock.stop()
    if inner_failure is not None:  # a stream that broke is not made whole by who hides it
        raise inner_failure
    for chunk in taken:
        yield chunk
    async for chunk in chunks:
        yield chunk


RUNS_PLUGIN = (run.__code__, _guarded.__code__)
"""The code whose frame, on a stack, says which plugin runs: the name of its `layer`."""


def _given_back(taken: deque[Chunk], result: object) -> Chunk:
    """What a plugin made, and no more among what it has taken: the chunk it was and those before
    it; the oldest one, if it is new."""
    if not isinstance(result, Chunk):
        raise PluginContractError(f"map_chunks() made a {type(result).__name__}, not a Chunk")
    if taken and taken[0] is not result and any(result is chunk for chunk in taken):
        while taken[0] is not result:
            taken.popleft()
    if taken:
        taken.popleft()
    return result


def _copy(response: ChatResponse) -> ChatResponse:
    """What a plugin in shadow mode may look at: the answer, or an empty stream in its place."""
    if isinstance(response, FullResponse):
        return FullResponse(
            response.exchange,
            response.data,
            status=response.status,
            headers=response.headers.copy(),
            source=response.source,
        )
    return StreamResponse(response.exchange, LocalEvents([]), source=response.source)
