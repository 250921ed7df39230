from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openai import AsyncOpenAI

from proxy.demo import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    """The real client of an embedded upstream."""
    async with (
        Upstream() as upstream,
        AsyncOpenAI(base_url=upstream.base_url, api_key="any", max_retries=0) as connected,
    ):
        yield connected
