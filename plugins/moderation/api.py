"""The client of a Moderation API: https://platform.openai.com/docs/api-reference/moderations."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools import LRUCache

from .pace import Pace
from .verdicts import CLEAN, CheckFailed, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from openai import AsyncOpenAI

    from proxy.plugin import Services

    from .options import API

T = TypeVar("T")

LONGEST, OVERLAP = 8_000, 200
"""Characters of one input, and how many of them are those at the end of the one before it."""
BATCH = 32
BACKOFF_SECONDS = 0.25


class Moderations:
    """Asks the API about texts, and remembers what it said."""

    def __init__(self, options: API, services: Services, *, entries: int) -> None:
        self._options = options
        self._services = services
        self._categories = {category.name: category for category in options.categories}
        self._known: LRUCache[bytes, Verdict] = LRUCache(entries)
        self._client: AsyncOpenAI | None = None
        self.pace = Pace()
        self._checks = services.metrics.counter(
            "moderation_checks", "Questions to the Moderation API", ["outcome"]
        )

    async def start(self) -> None:
        self._client = await asyncio.to_thread(_client, self._options)

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def check(self, texts: Sequence[str]) -> Verdict:
        """The verdict about some texts, each by itself.  CheckFailed if there is none."""
        verdict, asked = CLEAN, dict[bytes, str]()
        for text in filter(str.strip, texts):
            key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            known = self._known.get(key)
            if known is None:
                asked[key] = text
            else:
                self._checks.labels("known").inc()
                verdict += known
        for some in batched(asked.items()):
            found = await self._asked([text for _, text in some])
            for (key, _), each in zip(some, found, strict=True):
                self._known[key] = each
                verdict += each
        return verdict

    async def _asked(self, texts: Sequence[str]) -> list[Verdict]:
        """Ask until there is an answer, if all that is wrong is that we ask too often."""
        from openai import RateLimitError

        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._options.patience, BACKOFF_SECONDS
        while True:
            if not self.pace.allows(loop.time()):
                raise CheckFailed("the Moderation API has failed too often")
            try:
                verdicts = await self._ask(texts)
            except RateLimitError as error:
                self.pace.limited()
                self._checks.labels("limited").inc()
                wait = max(_retry_after(error), pause)
                if loop.time() + wait > deadline:
                    raise CheckFailed("the Moderation API is asked too often") from error
                await asyncio.sleep(wait)
                pause *= 2
            except Exception as error:
                self.pace.failed(loop.time())
                self._checks.labels("failed").inc()
                self._services.log.warning("the Moderation API: %s", type(error).__name__)
                raise CheckFailed("the Moderation API failed") from error
            else:
                self.pace.succeeded()
                self._checks.labels("answered").inc()
                return verdicts

    async def _ask(self, texts: Sequence[str]) -> list[Verdict]:
        assert self._client is not None
        pieces = [slices(text) for text in texts]
        inputs = [piece for each in pieces for piece in each]
        async with asyncio.timeout(self._options.timeout):
            answer = await self._client.moderations.create(model=self._options.model, input=inputs)
        results = answer.to_dict().get("results")
        if not isinstance(results, list) or len(results) != len(inputs):
            raise ValueError("not one result for each input")
        found = iter(map(self._read, results))
        return [Verdict(tuple(chain.from_iterable(islice(found, len(each))))) for each in pieces]

    def _read(self, result: Any) -> list[Finding]:
        """What one result says, by the operator's thresholds and actions."""
        flags, scores = dict(result["categories"]), dict(result["category_scores"])
        findings = []
        for name in dict.fromkeys([*flags, *scores]):
            category = self._categories.get(name)
            flagged = bool(flags.get(name))
            if category is not None and category.threshold is not None:
                flagged = (scores.get(name) or 0.0) >= category.threshold
            action = category.action if category is not None else "block"
            if flagged and action != "ignore":
                findings.append(Finding(name, action))
        if result["flagged"] and not any(flags.values()):
            findings.append(Finding("other", "block"))  # of a category that it does not name
        return findings


def batched(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """As many at a time as are asked about in one call."""
    rest = iter(items)
    while some := list(islice(rest, BATCH)):
        yield some


def slices(text: str) -> list[str]:
    """The text in pieces that overlap, none of them too long."""
    starts = range(0, max(1, len(text) - OVERLAP), LONGEST - OVERLAP)
    return [text[start : start + LONGEST] for start in starts]


def _retry_after(error: Any) -> float:
    try:
        return max(0.0, float(error.response.headers["retry-after"]))
    except (KeyError, ValueError):
        return 0.0


def _client(options: API) -> AsyncOpenAI:
    from openai import AsyncOpenAI  # takes half a second to import

    key = options.api_key.get_secret_value() if options.api_key else "none"
    return AsyncOpenAI(
        api_key=key, base_url=str(options.base_url), timeout=options.timeout, max_retries=0
    )
