"""Counts the tokens of requests and answers the way the server will."""

from __future__ import annotations

from .count import Count, Exactness
from .counter import Tokenizer
from .vocabulary import VocabularyError

__all__ = ["Count", "Exactness", "Tokenizer", "VocabularyError"]
