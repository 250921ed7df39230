"""Nothing may go wrong behind the back of a test; on the event loop that `dragoman serve` runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop

from tests.support.quiet import nothing_fails_unseen

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

__all__ = ["nothing_fails_unseen"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
