"""Tells plugins what a client has been shown, when it has been written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import sse
from .wire import Chunk

if TYPE_CHECKING:
    from .exchange import Exchange
    from .response import FullResponse, Write

log = logging.getLogger("dragoman.shown")


def showing(exchange: Exchange, write: Write) -> Write:
    """A `write` of whole events that tells of those it has written; the one given, if nobody asks."""
    if not exchange.viewers:
        return write

    async def told(whole: bytes) -> None:
        await write(whole)
        for event in sse.events(whole):
            payload = sse.data(event)
            if payload is not None and payload != b"[DONE]":
                show(exchange, Chunk(event))

    return told


def show(exchange: Exchange, piece: FullResponse | Chunk | None) -> None:
    """Tell of a piece.  A viewer that fails sees no more: the client must not notice."""
    for viewer in list(exchange.viewers):
        try:
            viewer(piece)
        except Exception as error:
            exchange.viewers.remove(viewer)
            log.exception("on_shown of %s failed: %s", exchange.id, type(error).__name__)
