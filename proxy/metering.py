"""Token counts of requests and answers, where the upstream does not tell or must be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .usage import Usage

if TYPE_CHECKING:
    from .exchange import Exchange
    from .telemetry import Metrics
    from .tokens import Count, Tokenizer
    from .wire import ChatRequest


class Meter:
    """Counts, for one upstream, and learns from what the upstream counted."""

    def __init__(self, tokens: Tokenizer, metrics: Metrics, upstream: str) -> None:
        self._tokens = tokens
        self._metrics = metrics
        self._upstream = upstream

    async def prompt(self, request: ChatRequest) -> Count:
        """The prompt of a request, as the upstream would count it."""
        body = request.body if request.changes else request.received.data
        return await self._tokens.count(body, model=request.model, upstream=self._upstream)

    async def local(self, request: ChatRequest, text: str) -> Usage:
        """The usage of an answer that a plugin made, as the upstream would have reported it."""
        prompt = await self.prompt(request)
        return Usage(prompt.tokens, await self._tokens.count_text(text, request.model))

    async def estimate(self, exchange: Exchange, sent: ChatRequest) -> None:
        """Fill in the usage that the upstream did not report."""
        prompt = await self.prompt(sent)
        text = exchange.facts.plain_text()
        completion = await self._tokens.count_text(text, sent.model)
        exchange.facts.usage = Usage(prompt.tokens, completion, exact=False)

    async def verify(self, sent: ChatRequest, usage: Usage) -> None:
        """Compare our count of a prompt with the upstream's, and learn from it."""
        prompt = await self.prompt(sent)
        difference = abs(prompt.tokens - usage.prompt_tokens)
        model = self._metrics.model(sent.model, seen=True)
        self._metrics.count_error.labels(model, prompt.exactness).observe(difference)
        self._tokens.learn(prompt, usage.prompt_tokens, upstream=self._upstream)

    async def rewrites(self, exchange: Exchange) -> None:
        """Put on the trace what each plugin that changed the messages saved, in tokens."""
        for mark, before, after in exchange.rewrites:
            was, is_now = await self.prompt(before), await self.prompt(after)
            saved = was.tokens - is_now.tokens
            mark.attributes["dragoman.tokens.before"] = was.tokens
            mark.attributes["dragoman.tokens.after"] = is_now.tokens
            mark.attributes["dragoman.tokens.saved"] = saved
            mark.attributes["dragoman.messages.before"] = len(before.messages)
            mark.attributes["dragoman.messages.after"] = len(after.messages)
            if saved > 0 and "dragoman.plugin.mode" not in mark.attributes:  # not a shadow
                exchange.saved_tokens += saved
                self._metrics.saved.labels(mark.plugin, "compressed").inc(saved)
