"""FAQ cache: the operator's answers to what everybody asks, at once and without the upstream."""

from __future__ import annotations

from .plugin import FaqCache

__all__ = ["FaqCache"]
