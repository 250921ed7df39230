"""Budgets in money or tokens, for a day, a month or altogether."""

from .plugin import SpendingLimit

__all__ = ["SpendingLimit"]
