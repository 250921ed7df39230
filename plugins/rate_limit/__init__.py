"""Limits on requests, tokens and concurrency, for one process or for many on one Redis."""

from .plugin import RateLimit

__all__ = ["RateLimit"]
