"""Dragoman: a proxy for any OpenAI-compatible API."""

from __future__ import annotations

__version__ = "0.1.0"
