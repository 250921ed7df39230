"""The client of a Moderation API: https://platform.openai.com/docs/api-reference/moderations."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from .known import Known
from .pace import Pace
from .texts import slices
from .verdicts import CLEAN, CheckFailed, Finding, Score, Verdict, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from openai import AsyncOpenAI

    from proxy.plugin import Services

    from .options import API

T = TypeVar("T")

BATCH = 32
BACKOFF_SECONDS = 0.25


class Moderations:
    """Asks the API about texts, and remembers what it said."""

    def __init__(self, options: API, services: Services, *, entries: int) -> None:
        self._options = options
        self._services = services
        self._categories = {category.name: category for category in options.categories}
        self._known = Known(entries)
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
        verdict, unknown = CLEAN, dict[str, None]()
        for text in filter(str.strip, texts):
            known = self._known.get(text)
            if known is None:
                unknown[text] = None
            else:
                self._checks.labels("known").inc()
                verdict += known
        for some in batched(unknown):
            pieces = [[piece for _, piece in slices(text)] for text in some]
            found = iter(await self._asked([piece for each in pieces for piece in each]))
            for text, each in zip(some, pieces, strict=True):
                about = total(islice(found, len(each)))
                self._known.put(text, about)
                verdict += about
        return verdict

    async def check_images(self, urls: Iterable[str]) -> Verdict:
        """The verdict about some images, one after the other: a request may hold only one.  Where
        they are on the web, it is the API that fetches them."""
        verdict = CLEAN
        for url in dict.fromkeys(urls):
            found = self._known.get(f"image {url}")
            if found is None:
                part = {"type": "image_url", "image_url": {"url": url}}
                (found,) = await self._asked([part])
                self._known.put(f"image {url}", found)
            else:
                self._checks.labels("known").inc()
            verdict += found
        return verdict

    async def _asked(self, inputs: Sequence[Any]) -> list[Verdict]:
        """Ask until there is an answer, if all that is wrong is that we ask too often."""
        from openai import BadRequestError, RateLimitError

        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._options.patience, BACKOFF_SECONDS
        while True:
            if not self.pace.allows(loop.time()):
                raise CheckFailed("the Moderation API has failed too often")
            try:
                verdicts = await self._ask(inputs)
            except RateLimitError as error:
                self.pace.limited()
                self._checks.labels("limited").inc()
                wait = max(_retry_after(error), pause)
                if loop.time() + wait > deadline:
                    raise CheckFailed("the Moderation API is asked too often") from error
                await asyncio.sleep(wait)
                pause *= 2
            except Exception as error:
                if not isinstance(error, BadRequestError):  # an image that it cannot read, say
                    self.pace.failed(loop.time())
                self._checks.labels("failed").inc()
                self._services.log.warning("the Moderation API: %s", type(error).__name__)
                raise CheckFailed("the Moderation API failed") from error
            else:
                self.pace.succeeded()
                self._checks.labels("answered").inc()
                return verdicts

    async def _ask(self, inputs: Sequence[Any]) -> list[Verdict]:
        assert self._client is not None
        async with asyncio.timeout(self._options.timeout):
            answer = await self._client.moderations.create(
                model=self._options.model, input=list(inputs)
            )
        results = answer.to_dict().get("results")
        if not isinstance(results, list) or len(results) != len(inputs):
            raise ValueError("not one result for each input")
        return list(map(self._read, results))

    def _read(self, result: Any) -> Verdict:
        """What one result says, by the operator's thresholds and actions."""
        flags, values = dict(result["categories"]), dict(result["category_scores"])
        seen = result.get("category_applied_input_types") or {}
        findings, scores = [], {}
        for name in dict.fromkeys([*flags, *values]):
            category, value = self._categories.get(name), values.get(name) or 0.0
            is_flagged = bool(flags.get(name))
            if category is not None and category.threshold is not None:
                is_flagged = value >= category.threshold
            scores[name] = Score(value, is_flagged, frozenset(seen.get(name) or {"text"}))
            action = category.action if category is not None else "block"
            if is_flagged and action != "ignore":
                findings.append(Finding(name, action))
        if result["flagged"] and not any(flags.values()):
            findings.append(Finding("other", "block"))  # of a category that it does not name
        return Verdict(tuple(findings), scores)


def batched(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """As many at a time as are asked about in one call."""
    rest = iter(items)
    while some := list(islice(rest, BATCH)):
        yield some


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
