"""A lock in a store: a random token that stands there for a time."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from .contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def holding(
    acquire: Callable[[bytes], Awaitable[bool]], release: Callable[[bytes], Awaitable[object]]
) -> AsyncIterator[bool]:
    """Whether our token took the place; if so, it is taken away afterwards, if it is still there.

    Where that fails, the lock ends with its time to live.
    """
    token = secrets.token_bytes(16)
    held = await acquire(token)
    try:
        yield held
    finally:
        if held:
            with suppress(StoreUnavailable):
                await release(token)
