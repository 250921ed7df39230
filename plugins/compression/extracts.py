"""Extracts of segments, made here and remembered; and what tokens a text has, by its characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cachetools import LRUCache

from .digest import Said, digest
from .messages import HEAD_ROLES, calls_of, role_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .history import History
    from .plan import Segment

_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
FRAME_TOKENS = 4
"""What a message costs beside its text."""
CJK_TOKENS, OTHER_TOKENS = 0.8, 0.27
"""Tokens of a character in o200k_base, roughly: corrected by what the messages themselves cost."""


def said(history: History, segment: Segment) -> list[Said]:
    """The messages of a segment, as digests and summaries read them."""
    return [
        Said(
            history.turns[index],
            role_of(message),
            text_of(message),
            history.costs[index],
            tuple(name for _, name, _ in calls_of(message)),
        )
        for index in range(*segment)
        if role_of(message := history.messages[index]) not in HEAD_ROLES
    ]


def weigher(history: History, start: int, end: int) -> Callable[[str], int]:
    """Tells the tokens of a text by those of these messages, near enough for a budget."""
    guessed = sum(_guess(text_of(history.messages[index])) for index in range(start, end))
    cost = history.cost(start, end) - FRAME_TOKENS * (end - start)
    share = min(2.0, max(0.5, cost / guessed)) if guessed >= 1 else 1.0
    return lambda text: int(_guess(text) * share) + 1


def _guess(text: str) -> float:
    wide = 0 if text.isascii() else len(_CJK.findall(text))
    return wide * CJK_TOKENS + (len(text) - wide) * OTHER_TOKENS


class Extracts:
    """Makes the extract of a segment once; it is remembered under the segment's key."""

    def __init__(self, entries: int = 4_096) -> None:
        self._texts: LRUCache[tuple[str, int], str] = LRUCache(entries)

    def known(self, key: str, budget: int) -> bool:
        return (key, budget) in self._texts

    def of(
        self,
        key: str,
        segment: list[Said],
        *,
        tokens: Callable[[str], int],
        budget: int,
        without: Collection[str],
    ) -> str:
        """The extract of a segment, in at most `budget` tokens."""
        text = self._texts.get((key, budget))
        if text is None:
            text = digest(segment, tokens=tokens, budget=budget, without=without)
            self._texts[key, budget] = text
        return text
