"""What runs in this process, and is expected to cost what those before it did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .plugin import Account

KNOWN = 10_000
"""Callers with their budgets whose answers are remembered."""

WEIGHT = 0.2
"""Of the newest answer in the average; half of it is of the last three."""


class Running:
    """Sets aside, from budgets that are not spent yet, what is about to be."""

    def __init__(self) -> None:
        self._average: LRUCache[str, float] = LRUCache(KNOWN)
        self._aside: Counter[str] = Counter()

    def aside(self, account: Account) -> int:
        """What the exchanges that run will cost, as far as can be known."""
        return self._aside[account.key]

    def begin(self, accounts: Sequence[Account]) -> Sequence[int]:
        """Set aside for one more exchange: how much of each account."""
        amounts = [round(self._average.get(account.holder, 0.0)) for account in accounts]
        for account, amount in zip(accounts, amounts, strict=True):
            self._aside[account.key] += amount
        return amounts

    def end(self, accounts: Sequence[Account], amounts: Sequence[int]) -> None:
        """Give back what was set aside for one."""
        for account, amount in zip(accounts, amounts, strict=True):
            self._aside[account.key] -= amount
            if not self._aside[account.key]:
                del self._aside[account.key]

    def learn(self, account: Account, amount: int) -> None:
        """Take notice of what an answer has cost."""
        average = self._average.get(account.holder, float(amount))
        self._average[account.holder] = average + WEIGHT * (amount - average)
