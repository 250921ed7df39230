"""The plugin: reserves before a request goes on, tells what is left, settles when all is over."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING, Self

from proxy.plugin import Plugin, note

from .answers import crowded, headers, names, refusal
from .demand import Demands, with_tokens
from .limiter import Limiter
from .line import Line, Waiter
from .options import RateLimitOptions
from .outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Counter

    from proxy.plugin import (
        CallNext,
        ChatRequest,
        ChatResponse,
        Forwarded,
        Outcome,
        Report,
        Services,
    )

    from .buckets import Decision
    from .demand import Demand
    from .outputs import Estimate


@dataclass(slots=True)
class Reservation:
    """What a request has taken."""

    request: ChatRequest
    decision: Decision
    lease: str
    estimate: Estimate | None
    response: ChatResponse | None = None

    def used(self, outcome: Outcome) -> int:
        """Tokens that the upstream worked for."""
        response = self.response
        if response is not None and (response.source == "local" or not response.ok):
            return 0
        if outcome.usage is not None:
            return outcome.usage.prompt_tokens + outcome.usage.completion_tokens
        if response is None or self.estimate is None:
            return 0
        return self.estimate.expected  # nobody says, nobody counts

    def teaches(self, outcome: Outcome) -> bool:
        """Is there a whole answer whose length says something of the next one's?"""
        return (
            self.estimate is not None and outcome.status == "completed" and self.used(outcome) > 0
        )

    def surplus(self, outcome: Outcome) -> list[float]:
        used = 0 if self.estimate is None else self.used(outcome)
        return [
            demand.charge - used if demand.unit == "tokens" else 0.0
            for demand in self.decision.demands
        ]


class RateLimit(Plugin[RateLimitOptions]):
    """Limits on requests, tokens and concurrency: per caller, session, model, or for all."""

    Config = RateLimitOptions
    on_error = "open"
    enforces = True
    timeout = 0.0  # waiting has a limit of its own, and so has the store

    def __init__(self, config: RateLimitOptions, services: Services) -> None:
        super().__init__(config, services)
        self._demands = Demands(config.limits)
        self._outputs = Outputs(config.first_answer, reserve_most=config.reserve == "most")
        self._limiter = Limiter(services, config.processes)
        self._line = Line(self._limiter, config.max_waiting)
        self._process = secrets.token_hex(8)
        self._numbers = count()
        decisions = services.metrics.counter(
            "rate_limit_decisions",
            "Requests by whether the limits let them through, and by those that did not.",
            ["outcome", "limit", "buckets"],
        )

        @cache
        def counted(allowed: bool, limit: str, is_local: bool) -> Counter:  # noqa: FBT001  # a callback
            outcome = "allowed" if allowed else "refused"
            return decisions.labels(outcome, limit, "fallback" if is_local else "regular")

        self._counted = counted

    async def start(self) -> None:
        if self._demands.count_tokens:
            await self.services.tokens.load("gpt-4o")

    def inherit(self, before: Self) -> None:
        self._limiter.inherit(before._limiter)

    async def stop(self) -> None:
        self._limiter.close()

    @classmethod
    def summary(cls, config: RateLimitOptions) -> str:
        return ", ".join(f"{limit.name} per {limit.per}" for limit in config.limits)

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        demands = self._demands.of(request)
        if not demands:
            return await call_next(request)
        estimate = await self._estimate(request, demands)
        if estimate is not None:
            demands = with_tokens(demands, estimate)
        lease, decision = await self._let_through(request.caller.id, demands, request.model)
        reservation = Reservation(request, decision, lease, estimate)
        if any(demand.unit != "requests" for demand in demands):
            # Not on the answer: there may never be one.
            request.on_finish(partial(self._settle, reservation))
        response = reservation.response = await call_next(request)
        for name, value in headers(decision).items():
            response.headers[name] = value
        return response

    async def admit(self, forwarded: Forwarded) -> None:
        demands = self._demands.of_forwarded(forwarded)
        if not demands:
            return
        lease, decision = await self._let_through(
            forwarded.caller.id, demands, forwarded.model or ""
        )
        units = {demand.unit for demand in demands}
        if "tokens" in units:
            forwarded.on_usage(partial(self._charge, decision))
        if "concurrent" in units:
            forwarded.on_finish(partial(self._free, decision, lease))
        forwarded.headers.update(headers(decision))

    async def _let_through(
        self, caller: str, demands: Sequence[Demand], model: str
    ) -> tuple[str, Decision]:
        """The name of a lease, and what was reserved under it.  RateLimited if nothing was."""
        lease = f"{self._process}{next(self._numbers):x}"
        decision = await self._reserve(caller, demands, lease)
        self._tell(decision)
        if not decision.allowed:
            raise refusal(decision, model)
        return lease, decision

    async def _estimate(self, request: ChatRequest, demands: Sequence[Demand]) -> Estimate | None:
        if not any(demand.unit == "tokens" for demand in demands):
            return None
        prompt = await self.services.tokens.count(request.data(), model=request.model)
        return self._outputs.estimate(request, prompt.tokens)

    async def _reserve(self, caller: str, demands: Sequence[Demand], lease: str) -> Decision:
        if not len(self._line):
            decision = await self._limiter.reserve_for_client(demands, lease)
            if decision.allowed or not self.config.max_wait:
                return decision
        else:
            decision = None
        if self._line.is_full:
            raise crowded()
        return await self._wait(caller, demands, lease, decision)

    async def _wait(
        self, caller: str, demands: Sequence[Demand], lease: str, last: Decision | None
    ) -> Decision:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        due = begun if last is None else begun + last.retry
        waiter = Waiter(caller, demands, lease, loop.create_future(), last, due)
        if not self._line.is_served:
            self._line.is_served = self.services.defer(self._line.serve(), name="line")
        decision = await self._line.wait(waiter, self.config.max_wait)
        note(rate_limit_waited_seconds=round(loop.time() - begun, 3))
        if decision is None:
            raise crowded()
        return decision

    def _tell(self, decision: Decision) -> None:
        is_local = self._limiter.is_local(decision)
        refusing = names(decision.refusing)
        self._counted(decision.allowed, refusing, is_local).inc()
        if refusing:
            note(rate_limit_refused_by=refusing)
        if is_local:
            note(rate_limit_degraded=True)

    async def _charge(self, decision: Decision, report: Report) -> None:
        usage = report.usage
        await self._limiter.charge(decision, usage.prompt_tokens + usage.completion_tokens)

    async def _free(self, decision: Decision, lease: str, _: Outcome) -> None:
        await self._limiter.settle(decision, lease, [0.0] * len(decision.demands))

    async def _settle(self, reservation: Reservation, outcome: Outcome) -> None:
        surplus = reservation.surplus(outcome)
        if reservation.teaches(outcome) and outcome.usage is not None:
            self._outputs.learn(reservation.request, outcome.usage.completion_tokens)
        await self._limiter.settle(reservation.decision, reservation.lease, surplus)
