"""The tokenizer: counts the tokens of requests, texts and answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from .calibration import Calibration, Observation
from .count import Count, Doubt
from .ledger import Ledger
from .memo import Memo
from .models import Models
from .request import Request, Unreadable, encoded
from .text import Allowance, LoopWouldStall, Meter, Vocabularies, estimate
from .vocabulary import ENCODINGS
from .weights import Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .calibration import Fit
    from .chat import Chat
    from .models import Model

Answer = TypeVar("Answer")

# A longer body is not even split on the event loop, which takes half a millisecond for each.
_LONGEST_ON_LOOP = 1_000_000
_MOST_MESSAGES_ON_LOOP = 2_000  # remembered ones take a microsecond each
_MOST_WAITING = 64  # jobs for the counting thread; with more, an estimate is worth more than a wait


class Tokenizer:
    """Counts tokens as the server will, as far as that is known, without stalling the event loop.

    Everything is counted once: from then on, a request costs what its new messages cost.  What
    would stall the loop is counted in a thread, and estimated where that would take too long.
    Counting never raises: there is an answer to every body, and it says how exact it is.
    No text is kept, only digests.

    `encodings` tells of models that have other names than OpenAI's: which vocabulary they have
    ("cl100k_base"), or which OpenAI model they are ("gpt-4o").  Its keys are names or globs.

    One instance serves all requests of an event loop.
    """

    def __init__(
        self,
        *,
        encodings: Mapping[str, str] | None = None,
        inline_characters: int = 8_000,
        max_characters: int = 4_000_000,
        memo_entries: int = 50_000,
    ) -> None:
        self._models = Models(encodings or {})
        self._on_loop = Allowance(inline_characters, on_loop=True)
        self._in_thread = Allowance(max_characters)
        self._vocabularies = Vocabularies()
        self._calibration = Calibration()
        self._texts: Memo[int] = Memo(memo_entries)
        self._ledger = Ledger(memo_entries)
        self._thread = ThreadPoolExecutor(1, "tokens")
        self._waiting = 0
        self._is_closed = False

    async def load(self, *models: str) -> None:
        """Load the vocabularies of these models, or all; else the first count has to.

        VocabularyError if a file is not what it should be.
        """
        needed = {self._models.find(model).encoding for model in models} or ENCODINGS
        loop = asyncio.get_running_loop()
        for encoding in sorted(needed):
            await loop.run_in_executor(self._thread, self._vocabularies.load, encoding)

    async def count(
        self, body: Mapping[str, Any] | bytes, *, model: str | None = None, upstream: str = ""
    ) -> Count:
        """Count the prompt tokens of a chat completion request.

        The received bytes are counted faster than a decoded body: what is remembered need not be
        decoded.  `model` overrules the body's; `upstream` selects what was learned from a server.
        A body without messages, or of no JSON at all, is estimated by its size.
        """
        try:
            data = body if isinstance(body, bytes) else encoded(body)
        except Unreadable:
            return _unreadable(model or "", 0)
        return await self._run(lambda allowance: self._count(data, model, upstream, allowance))

    async def count_text(self, text: str, model: str) -> int:
        """Count the tokens of a text."""
        return await self._run(
            lambda allowance: self._meter(self._models.find(model), allowance).tokens(text)
        )

    async def count_completion(self, message: Mapping[str, Any], model: str) -> int:
        """Count the tokens of an answer's message, which has a text or calls; not its reasoning."""
        return await self._run(lambda allowance: self._completion(message, model, allowance))

    def learn(self, count: Count, prompt_tokens: int, *, upstream: str) -> None:
        """Take notice of what the server has counted, to correct or to judge later counts."""
        if not self._models.find(count.model).is_recorded and count.messages:
            observation = Observation(len(count.messages), count.text_tokens, prompt_tokens)
            self._calibration.observe(upstream, count.model, observation)
        elif count.exactness == "exact":
            self._calibration.note(upstream, count.model, was_exact=count.tokens == prompt_tokens)

    def exact_share(self, model: str, *, upstream: str) -> float | None:
        """The share of counts called exact that a server has confirmed, or None for too few.

        If it falls, the server has changed its template.
        """
        return self._calibration.exact_share(upstream, model)

    def close(self) -> None:
        """End the counting thread; what would need it is estimated from now on."""
        self._is_closed = True
        self._thread.shutdown(wait=False)

    async def _run(self, job: Callable[[Allowance], Answer]) -> Answer:
        try:
            return job(self._on_loop)
        except LoopWouldStall:
            pass
        if self._is_closed or self._waiting >= _MOST_WAITING:
            return job(Allowance(0))
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._run_in_thread, job)
        finally:
            self._waiting -= 1

    def _run_in_thread(self, job: Callable[[Allowance], Answer]) -> Answer:
        return job(Allowance(0) if self._is_closed else self._in_thread)

    def _meter(self, model: Model, allowance: Allowance) -> Meter:
        return Meter(model.encoding, self._vocabularies, self._texts, allowance)

    def _count(
        self, body: bytes, model_name: str | None, upstream: str, allowance: Allowance
    ) -> Count:
        if allowance.on_loop and len(body) > _LONGEST_ON_LOOP:
            raise LoopWouldStall
        try:
            request = Request(body)
        except Unreadable:
            return _unreadable(model_name or "", len(body))
        if allowance.on_loop and len(request.messages) > _MOST_MESSAGES_ON_LOOP:
            raise LoopWouldStall
        name = request.model if model_name is None else model_name
        model = self._models.find(name)
        meter = self._meter(model, allowance)
        chat = self._ledger.chat(request, model, meter)
        if meter.guessed or not model.is_recorded or not request.messages:
            chat = chat._replace(doubt=Doubt.GREAT)
        fit = None if model.is_recorded else self._calibration.fit(upstream, name)
        return _calibrated(chat, name, fit) if fit else _count(chat, name)

    def _completion(self, message: Mapping[str, Any], model_name: str, allowance: Allowance) -> int:
        model = self._models.find(model_name)
        try:
            return Scale(model, self._meter(model, allowance)).weigh_answer(message)
        except (TypeError, ValueError, RecursionError):
            return 0  # it never was JSON


def _count(chat: Chat, model: str) -> Count:
    return Count(
        tokens=chat.overhead + sum(chat.messages),
        exactness=chat.doubt.exactness,
        messages=tuple(chat.messages),
        overhead=chat.overhead,
        model=model,
        text_tokens=chat.overhead_text + sum(chat.texts),
    )


def _calibrated(chat: Chat, model: str, fit: Fit) -> Count:
    text_tokens = chat.overhead_text + sum(chat.texts)
    tokens = max(1, round(fit.tokens(len(chat.messages), text_tokens)))
    messages = tuple(max(0, round(fit.tokens(1, text) - fit.constant)) for text in chat.texts)
    return Count(
        tokens=tokens,
        exactness=Doubt.GREAT.exactness,
        messages=messages,
        overhead=tokens - sum(messages),
        model=model,
        text_tokens=text_tokens,
    )


def _unreadable(model: str, size: int) -> Count:
    tokens = estimate(size)
    return Count(tokens, Doubt.GREAT.exactness, (), tokens, model, tokens)
