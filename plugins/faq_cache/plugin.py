"""The plugin: what it answers itself, and what it tells about it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from proxy.plugin import ConfigError, Plugin, Usage, answer, cost, note

from .calibration import told
from .command import Circumstances, decided, judged, reviewed
from .eligibility import eligible, wants_fresh
from .entries import FaqError, in_scope
from .locales import in_language
from .near import NearLog
from .options import FaqOptions, Semantic
from .reading import Reading
from .responses import ResponseCache, cacheable
from .reviewed import read
from .semantic import TRIED_FOR, SemanticTier

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Outcome, Services

    from .deciding import Found
    from .eligibility import Asked
    from .matching import Decision, Index, InScope
    from .question import Question

HEADER = "x-dragoman-cache"
NEARLY = 0.03
"""How far below its threshold a cosine is kept as a near hit."""


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
        self._semantic = (
            SemanticTier(config.semantic, services.log) if config.semantic.embedder else None
        )
        counter = services.metrics.counter
        self._requests = counter(
            "faq_cache_requests", "Chat completions by what was decided", ["decision", "reason"]
        )
        self._responded = counter(
            "faq_cache_responses", "Requests that the response cache looked for", ["outcome"]
        )
        self._meant = counter(
            "faq_cache_semantic", "Questions to the semantic tier", ["mode", "outcome"]
        )
        self._saved_tokens = counter("faq_cache_tokens_saved", "Tokens of answers given here", [])
        self._saved_money = counter(
            "faq_cache_saved_usd", "US dollars that the upstream would have asked for", []
        )

    async def start(self) -> None:
        if self._reading is not None:
            try:
                await self._reading.start()
                if self._semantic is not None:
                    await asyncio.to_thread(self._semantic.start)
            except ValueError as error:  # the file, the embedder
                raise ConfigError(str(error).splitlines()) from error
            if self._semantic is not None:
                self._semantic.want(self._reading.index.faq)
            await self.services.tokens.load("gpt-4o")  # to count the usage of answers
        await asyncio.to_thread(cost, "gpt-4o", Usage(1, 1))  # its first call takes half a second

    async def stop(self) -> None:
        if self._semantic is not None:
            await asyncio.to_thread(self._semantic.stop)

    @classmethod
    def summary(cls, config: FaqOptions) -> str:
        tiers = "exact and lexical" if config.lexical else "exact"
        semantic = config.semantic
        if semantic.embedder:
            tiers += (
                f", {semantic.embedder} {'serves' if semantic.mode == 'serve' else 'in shadow'}"
            )
        faq = f"{config.file}, {tiers}" if config.file else "no file"
        return f"{faq}; responses {config.responses.ttl:g} s" if config.responses.enabled else faq

    @classmethod
    def decided(cls, config: FaqOptions, question: str, **circumstances: str | None) -> list[str]:
        """How a question is decided, step by step.  FaqError if the file cannot be used."""
        return list(decided(config, question, Circumstances(**circumstances)))

    @classmethod
    def calibrated(
        cls,
        config: FaqOptions | None,
        pairs: Path,
        *,
        embedder: str | None,
        precision: float,
        svg: Path,
    ) -> list[str]:
        """What thresholds of an embedder are worth on labelled pairs.  FaqError if they are none."""
        options = config.semantic if config else Semantic()
        if embedder is not None:
            options = _with(options, embedder)
        return list(told(options, pairs, precision, svg))

    async def reviewed(self) -> list[str]:
        """What entries have nearly answered, and how sure each tier is."""
        if self._reading is None:
            return ["there is no file of questions"]
        verdicts = await asyncio.to_thread(read, self._reading.path)
        return await reviewed(self._reading.index.faq, verdicts, self.services)

    async def judged(self, entry: str, question: str, *, accepted: bool) -> list[str]:
        """Make a question an alias of an entry, or a negative.  FaqError if it cannot be."""
        if self._reading is None:
            return ["there is no file of questions"]
        return await judged(self._reading, self.services, entry, question, accepted=accepted)

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        if self._reading is not None:
            served = await self._from_faq(request, await self._reading.latest())
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

    async def _from_faq(self, request: ChatRequest, index: Index) -> ChatResponse | None:
        """The answer of an entry, if there is one for this request."""
        asked = eligible(request, first_turn_only=self.config.first_turn_only)
        if isinstance(asked, str):
            self._tell("bypass", asked)
            return None
        scope = partial(in_scope, request=request, system=asked.system)
        now = datetime.now(UTC)
        decision = index.find(asked.question, scope, now)
        tried = decision.entry is None and decision.reason in TRIED_FOR
        if tried and self._semantic is not None and self.config.semantic.mode == "serve":
            found = await self._semantic.find(asked.question, index, scope, now)
            self._record(asked.question, found)
            decision = found.decision
        elif decision.entry is None:
            self._remember(asked.question, index, scope, now, tried=tried)
        if decision.entry is None:
            self._tell("miss", decision.reason)
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

    def _remember(
        self, asked: Question, index: Index, scope: InScope, now: datetime, *, tried: bool
    ) -> None:
        """Look for near hits, beside the request."""
        if self.config.near.enabled or (tried and self._semantic is not None):
            looking = self._look_near(asked, index, scope, now, tried=tried)
            self.services.defer(looking, name="near hits")

    async def _look_near(
        self, asked: Question, index: Index, scope: InScope, now: datetime, *, tried: bool
    ) -> None:
        recorded = False
        if tried and self._semantic is not None:
            found = await self._semantic.find(asked, index, scope, now)
            recorded = self._record(asked, found)
        if self.config.near.enabled and not recorded:
            self._near.add(asked, index.near(asked, scope))

    def _record(self, asked: Question, found: Found) -> bool:
        """Count what the semantic tier says, and keep what it answers, or nearly does."""
        decision, options = found.decision, self.config.semantic
        self._meant.labels(options.mode, decision.reason).inc()
        note(faq_cache_semantic=decision.reason)
        near = found.neighbour
        if near is None or decision.known is None:
            return False
        note(faq_cache_candidate=near.entry.id, faq_cache_cosine=round(near.cosine, 3))
        if not self.config.near.enabled or near.cosine < found.needed - NEARLY:
            return False
        veto = "" if decision.tier else decision.reason.removeprefix("veto_")
        self._near.note(asked, decision.known, near.cosine, veto, tier=decision.tier)
        return True

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


def _with(options: Semantic, embedder: str) -> Semantic:
    """The options with another embedder.  FaqError if there is none of this name."""
    try:
        return Semantic.model_validate({**options.model_dump(), "embedder": embedder})
    except ValidationError as error:
        raise FaqError([each["msg"] for each in error.errors()]) from None
