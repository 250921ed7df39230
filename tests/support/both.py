"""The real openai client, at the upstream itself and through the proxy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import openai

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@dataclass
class Both:
    """The two ways that a client can take, as base URLs."""

    direct: str
    through: str

    async def ask(self, use: Callable[[openai.AsyncOpenAI], Awaitable[T]], **options: Any) -> T:
        """The result of use(client), the same whichever way it goes."""
        results = []
        for url in (self.direct, self.through):
            http = openai.DefaultAsyncHttpxClient(verify=False)  # certificates take long to load
            client = openai.AsyncOpenAI(base_url=url, http_client=http, **{**_OPTIONS, **options})
            async with client:
                results.append(await use(client))
        direct, through = results
        assert through == direct
        return through

    async def ask_sync(self, use: Callable[[openai.OpenAI], T], **options: Any) -> T:
        """The same with the synchronous client."""

        def ask() -> list[T]:
            results = []
            for url in (self.direct, self.through):
                http = openai.DefaultHttpxClient(verify=False)
                client = openai.OpenAI(base_url=url, http_client=http, **{**_OPTIONS, **options})
                with client:
                    results.append(use(client))
            return results

        direct, through = await asyncio.to_thread(ask)
        assert through == direct
        return through


_OPTIONS: dict[str, Any] = {"api_key": "sk-x", "max_retries": 0}
