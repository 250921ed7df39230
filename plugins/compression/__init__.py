"""Compression: long chats at a fraction of the price, with nothing lost that the user ordered."""

from __future__ import annotations

from .plugin import Compression

__all__ = ["Compression"]
