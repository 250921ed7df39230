"""Moderation: what comes in is checked, and nothing goes out before a check has passed it."""

from __future__ import annotations

from .plugin import Moderation

__all__ = ["Moderation"]
