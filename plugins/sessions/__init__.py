"""Conversations that the proxy remembers, so that a client need send only what is new."""

from .plugin import Sessions

__all__ = ["Sessions"]
