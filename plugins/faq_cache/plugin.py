"""The plugin: what it answers itself, and what it tells about it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from proxy.plugin import Plugin, Usage, answer, cost, note

from .command import Circumstances, decided, reviewed
from .eligibility import eligible, wants_fresh
from .entries import in_scope
from .locales import in_language
from .near import NearLog
from .options import FaqOptions
from .reading import Reading
from .responses import ResponseCache, cacheable

if TYPE_CHECKING:
    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Outcome, Services

    from .eligibility import Asked
    from .matching import Decision, Index

HEADER = "x-dragoman-cache"


class FaqCache(Plugin[FaqOptions]):
    """Answers what everybody asks from a file; optionally, the same request as before."""

    Config = FaqOptions
    on_error = "open"
    timeout = 30.0  # a request may wait for the answer to the same one

    def __init__(self, config: FaqOptions, services: Services) -> None:
        super().__init__(config, services)
        self._reading = Reading(config.file, config, services) if config.file else None
        responses = config.responses
        self._responses = ResponseCache(responses, services) if responses.enabled else None
        self._near = NearLog(config.near, services)
        counter = services.metrics.counter
        self._requests = counter(
            "faq_cache_requests", "Chat completions by what was decided", ["decision", "reason"]
        )
        self._responded = counter(
            "faq_cache_responses", "Requests that the response cache looked for", ["outcome"]
        )
        self._saved_tokens = counter("faq_cache_tokens_saved", "Tokens of answers given here", [])
        self._saved_money = counter(
            "faq_cache_saved_usd", "US dollars that the upstream would have asked for", []
        )

    async def start(self) -> None:
        if self._reading is not None:
            await self._reading.start()
            await self.services.tokens.load("gpt-4o")  # to count the usage of answers
        await asyncio.to_thread(cost, "gpt-4o", Usage(1, 1))  # its first call takes half a second

    @classmethod
    def summary(cls, config: FaqOptions) -> str:
        tiers = "exact and lexical" if config.lexical else "exact"
        faq = f"{config.file}, {tiers}" if config.file else "no file"
        return f"{faq}; responses {config.responses.ttl:g} s" if config.responses.enabled else faq

    @classmethod
    def decided(cls, config: FaqOptions, question: str, **circumstances: str | None) -> list[str]:
        """How a question is decided, step by step.  FaqError if the file cannot be used."""
        return list(decided(config, question, Circumstances(**circumstances)))

    async def reviewed(self) -> list[str]:
        """What entries have nearly answered."""
        if self._reading is None:
            return ["there is no file of questions"]
        return await reviewed(self._reading.index.faq, self.services.store)

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        if self._reading is not None:
            served = self._from_faq(request, self._reading.index)
            if served is not None:
                return served
        if self._responses is not None:
            return await self._as_before(self._responses, request, call_next)
        return await call_next(request)

    async def _as_before(
        self, responses: ResponseCache, request: ChatRequest, call_next: CallNext
    ) -> ChatResponse:
        """What the upstream has said to the same request; else what it says now."""
        if not cacheable(request):
            return await call_next(request)
        key = responses.key(request)
        kept = None if wants_fresh(request) else await responses.find(key)
        if kept is None:
            self._responded.labels("miss").inc()
            return await responses.fetch(key, request, call_next)
        self._responded.labels("hit").inc()
        note(faq_cache_response="hit")
        response = answer(request, kept.text)
        response.headers[HEADER] = "hit;tier=response"
        response.headers["age"] = str(kept.age)
        response.on_finish(partial(self._count, request))
        return response

    # ---- the FAQ

    def _from_faq(self, request: ChatRequest, index: Index) -> ChatResponse | None:
        """The answer of an entry, if there is one for this request."""
        asked = eligible(request, first_turn_only=self.config.first_turn_only)
        if isinstance(asked, str):
            self._tell("bypass", asked)
            return None
        decision = index.find(
            asked.question,
            partial(in_scope, request=request, system=asked.system),
            datetime.now(UTC),
        )
        if decision.entry is None:
            self._tell("miss", decision.reason)
            self._remember(asked, request, index)
            return None
        self._tell("hit", decision.tier)
        return self._serve(request, asked, decision)

    def _serve(self, request: ChatRequest, asked: Asked, decision: Decision) -> ChatResponse:
        entry = decision.entry
        assert entry is not None
        note(faq_cache_entry=entry.id, faq_cache_score=round(decision.score, 3))
        text = in_language(entry.answer, asked.question, request.options.get("locale", ""))
        response = answer(request, text)
        score = "" if decision.tier == "exact" else f";score={decision.score:.3f}"
        response.headers[HEADER] = f"hit;tier={decision.tier};id={entry.id}{score}"
        response.on_finish(partial(self._count, request))
        return response

    def _remember(self, asked: Asked, request: ChatRequest, index: Index) -> None:
        """Look for near hits, beside the request."""
        if self.config.near.enabled:
            self.services.defer(self._look_near(asked, request, index), name="near hits")

    async def _look_near(self, asked: Asked, request: ChatRequest, index: Index) -> None:
        scope = partial(in_scope, request=request, system=asked.system)
        self._near.add(asked.question, index.near(asked.question, scope))

    def _tell(self, decision: str, reason: str) -> None:
        note(faq_cache_decision=decision, faq_cache_reason=reason)
        self._requests.labels(decision, reason).inc()

    async def _count(self, request: ChatRequest, outcome: Outcome) -> None:
        """What the answer would have cost; nothing in shadow mode, where somebody else gave it."""
        if outcome.usage is None or request.exchange.source != self.services.name:
            return
        usage = outcome.usage
        self._saved_tokens.inc(usage.prompt_tokens + usage.completion_tokens)
        price = cost(request.model, usage, base_url=self.services.upstream)
        if price is not None:
            self._saved_money.inc(float(price.total))
