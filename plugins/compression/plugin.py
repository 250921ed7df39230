"""The plugin: what it compacts, what it prepares for later, and what it tells about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachetools import LRUCache

from proxy.plugin import FullResponse, Plugin, note

from . import history as histories
from .compaction import Compaction, Compactor, Remembered
from .economics import WINDOW_SHARE, Terms, best_high, saved, terms
from .options import CompressionOptions
from .plan import Hysteresis
from .summaries import Summaries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.plugin import CallNext, ChatRequest, ChatResponse, Outcome, Services

    from .history import History
    from .plan import Policy

MOST_KNOWN = 100_000
COLD = 50
"""Messages that were never read before; with more, they are read in a thread."""

_LIMIT = re.compile(r"maximum context length is (\d+) tokens")


@dataclass(frozen=True, slots=True)
class Result:
    """A request to send, and the facts of how it came about."""

    request: ChatRequest
    before: int
    after: int
    newest: int
    compaction: Compaction | None = None


class Compression(Plugin[CompressionOptions]):
    """Shortens long chats: memory and retrieval in place of what is old."""

    Config = CompressionOptions
    on_error = "open"
    timeout = 5.0  # a long chat that this process has never seen takes a while to read

    def __init__(self, config: CompressionOptions, services: Services) -> None:
        super().__init__(config, services)
        self._summaries = Summaries(config, services)
        self._compactor = Compactor(config, config.marks[1], services.secret)
        self._reading = asyncio.Lock()
        self._known: set[bytes] = set()
        self._terms: LRUCache[str, Terms | None] = LRUCache(100)
        counter = services.metrics.counter
        self._saved_tokens = counter("compression_tokens_saved", "Prompt tokens left out", [])
        self._saved_money = counter(
            "compression_saved_usd", "US dollars saved, after what caches would have saved", []
        )
        self._decisions = counter("compression_requests", "Chats by what was done", ["decision"])

    async def start(self) -> None:
        await self._summaries.start()
        await self._terms_of("gpt-4o")  # the first one takes half a second,
        await self.services.tokens.load("gpt-4o")  # and so does its vocabulary

    async def stop(self) -> None:
        await self._summaries.stop()

    @classmethod
    def summary(cls, config: CompressionOptions) -> str:
        high, low = config.marks
        by = f"summaries by {config.summariser.model}" if config.summariser else "extracts"
        marks = f"{high} -> {low} tokens, " if config.policy == "hysteresis" else ""
        return f"{config.policy}, {marks}{by}"

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        if request.options.get("compression", "").lower() == "off":
            return await call_next(request)
        result = await self._compact(request, await self._policy(request))
        response = await call_next(result.request)
        if (limit := _too_long(response)) is not None:
            harder = await self._compact(request, self._harder(limit, result.after))
            if harder.after < result.after:
                result = harder
                response = await call_next(result.request)
        self._tell(response, result)
        return response

    # ---- what to do

    async def _policy(self, request: ChatRequest) -> Policy:
        """The policy for this request's model, below what its window holds."""
        high, low = self.config.marks
        known = await self._terms_of(request.model)
        if self.config.preset == "auto" and self.config.high is None and known is not None:
            high = best_high(low, 0, self.config.segment_tokens, known)
        if known is not None and known.window:
            high = min(high, int(known.window * WINDOW_SHARE))
        return self.config.policy_for(high, min(low, high * 3 // 4))

    async def _terms_of(self, model: str) -> Terms | None:
        if model not in self._terms:
            found = await asyncio.to_thread(terms, model, self.services.upstream)
            self._terms[model] = found
            return found
        return self._terms[model]

    def _harder(self, limit: int, tokens: int) -> Policy:
        """Half of what was too much: the last resort before the client sees an error."""
        high = max(1, min(limit or tokens, tokens) // 2)
        segment = min(self.config.segment_tokens, high // 6)
        return Hysteresis(high, high // 3, keep=0, segment=segment, most=1)

    async def _compact(self, request: ChatRequest, policy: Policy) -> Result:
        messages = request.messages
        if not messages or not all(isinstance(message, Mapping) for message in messages):
            return Result(request, 0, 0, 0)
        count = await self._count(request)
        whole = Result(request, count.tokens, count.tokens, 0)
        if len(count.messages) != len(messages):
            return whole
        history = histories.read(messages, count.messages, count.overhead)
        cuts = policy.cuts(history)
        coming = policy.coming(history, cuts)
        if not cuts and coming is None:
            return self._decided("short", whole)
        digests = self._compactor.digests(history)
        owner = request.caller.id
        if coming is not None and self.config.summariser is not None:
            later = self._compactor.cut(history, policy, [*cuts, coming], owner, digests)
            await self._prepare(history, later.needed)
        if not cuts:
            return self._decided("short", whole)
        cut = self._compactor.cut(history, policy, cuts, owner, digests)
        cut = replace(cut, needed=await self._with_texts(cut.needed))
        make = partial(self._compactor.compact, history, cut, digests, policy.segment)
        for retrieves in (True, False):
            compaction = await self._read(partial(make, retrieves=retrieves), digests)
            changed = self._with_cache_key(request.replace(messages=compaction.messages), history)
            after = (await self._count(changed)).tokens
            if after < count.tokens:
                self._settle(compaction, policy)
                self._decisions.labels("compacted").inc()
                return Result(changed, count.tokens, after, _newest(history), compaction)
        return self._decided("longer", whole)

    async def _count(self, request: ChatRequest) -> Any:
        return await self.services.tokens.count(request.data(), model=request.model)

    def _decided(self, decision: str, result: Result) -> Result:
        self._decisions.labels(decision).inc()
        note(compression_decision=decision)
        return result

    async def _with_texts(self, needed: Sequence[Remembered]) -> Sequence[Remembered]:
        if self.config.summariser is None:
            return needed
        records = await self._summaries.find([item.key for item in needed])
        return [
            replace(item, text=record.text) if record is not None else item
            for item, record in zip(needed, records, strict=True)
        ]

    async def _prepare(self, history: History, needed: Sequence[Remembered]) -> None:
        """Have the summaries made that the next cut will need."""
        records = await self._summaries.find([item.key for item in needed])
        for item, record in zip(needed, records, strict=True):
            if record is None:
                self._summaries.prepare(item.key, self._compactor.said(history, item.segment))

    async def _read(
        self, make: Callable[[], Compaction], digests: Mapping[int, bytes]
    ) -> Compaction:
        """The compaction; in a thread if so much has to be read for it that others would wait."""
        async with self._reading:
            new = set(digests.values()) - self._known
            self._known = (self._known if len(self._known) < MOST_KNOWN else set()) | new
            return make() if len(new) < COLD else await asyncio.to_thread(make)

    def _settle(self, compaction: Compaction, policy: Policy) -> None:
        """Stay with the extracts that stand in for summaries; not with those of a last resort."""
        if self.config.summariser is not None and policy.segment == self.config.segment_tokens:
            for key, text in compaction.memory.extracts.items():
                self._summaries.settle(key, text)

    def _with_cache_key(self, request: ChatRequest, history: History) -> ChatRequest:
        """The same chat to the same cache: its key stands for the caller and the first words."""
        wanted = self.config.prompt_cache_key
        if wanted is None:
            wanted = urlsplit(self.services.upstream).hostname == "api.openai.com"
        if not wanted or request.get("prompt_cache_key") is not None:
            return request
        return request.replace(
            prompt_cache_key=self._compactor.chat_key(history, request.caller.id)
        )

    # ---- what to tell

    def _tell(self, response: ChatResponse, result: Result) -> None:
        compaction = result.compaction
        if compaction is None:
            return
        saved_tokens = result.before - result.after
        self._saved_tokens.inc(saved_tokens)
        is_extract = compaction.memory.extracts or self.config.summariser is None
        kind = "extract" if is_extract else "summary"
        note(
            compression_decision="compacted",
            compression_cut=compaction.cut,
            compression_tokens_before=result.before,
            compression_tokens_after=result.after,
            compression_pins=compaction.memory.pins,
            compression_segments=compaction.pieces,
            compression_kind=kind,
            compression_excerpts=compaction.excerpts,
        )
        response.headers["x-dragoman-compression"] = (
            f"hit;cut={compaction.cut};saved={saved_tokens}"
        )

        async def settle(outcome: Outcome) -> None:
            if outcome.usage is None:
                return
            money = saved(
                result.request.model,
                outcome.usage,
                before=result.before,
                newest=result.newest,
                base_url=self.services.upstream,
            )
            if money is not None and money > 0:
                self._saved_money.inc(float(money))

        response.on_finish(settle)


def _newest(history: History) -> int:
    """Tokens that came since the prompt before: the last answer, and what was said to it."""
    newest = history.newest or history.head
    start = newest
    while start > history.head and history.turns[start - 1] == history.turns[newest] - 1:
        start -= 1
        if history.messages[start].get("role") == "assistant":
            break
    return history.cost(start, len(history.messages))


def _too_long(response: ChatResponse) -> int | None:
    """The window of a model that found the prompt too long for it; 0 if it did not say."""
    if not isinstance(response, FullResponse) or response.status != 400:
        return None
    error = response.body.get("error")
    if not isinstance(error, dict) or error.get("code") != "context_length_exceeded":
        return None
    found = _LIMIT.search(str(error.get("message")))
    return int(found[1]) if found else 0
