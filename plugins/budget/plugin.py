"""The plugin: refuses who has spent his budget, and adds up what each exchange has cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from proxy.plugin import Plugin, RateLimited, Usage, cost, note

from .admin import endpoint, printed
from .ledger import MARGIN, Ledger
from .options import BudgetOptions
from .periods import current, period_at
from .usage import UsageBook, amounts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, tzinfo

    from proxy.plugin import (
        Caller,
        CallNext,
        ChatRequest,
        ChatResponse,
        Endpoint,
        Outcome,
        Services,
        Store,
    )

    from .options import Budget, Price

NANO = 1_000_000_000
"""Money is counted in billionths of a dollar."""


class InsufficientQuota(RateLimited):
    type: ClassVar[str] = "insufficient_quota"
    code: ClassVar[str] = "insufficient_quota"


class Account(NamedTuple):
    """A budget of somebody in this period."""

    budget: Budget
    key: str
    ttl: int
    limit: int


@dataclass(slots=True)
class Bill:
    """What an exchange is charged to."""

    caller: Caller
    model: str
    day: str
    accounts: Sequence[Account]
    response: ChatResponse | None = None

    @property
    def is_due(self) -> bool:
        """False for answers that plugins made."""
        return self.response is None or self.response.source == "upstream"


class SpendingLimit(Plugin[BudgetOptions]):
    """Budgets in money or tokens: per caller or for all; by day, month or altogether.  What is used."""

    Config = BudgetOptions
    enforces = True

    def __init__(self, config: BudgetOptions, services: Services) -> None:
        super().__init__(config, services)
        self._ledger = Ledger(services.store)
        self._book = UsageBook(services, config.keep_usage) if config.keep_usage else None
        self._zones: dict[str, ZoneInfo] = {}
        self.now: Callable[[tzinfo], datetime] = current
        counter = services.metrics.counter
        self._refused = counter("budget_refused", "Requests beyond a budget.", ["budget"])
        self._warned = counter("budget_warned", "Requests beyond a soft limit.", ["budget"])
        self._unpriced = counter("budget_unpriced", "Answers whose price is not known.", [])

    async def start(self) -> None:
        names = {self.config.timezone, *self.config.timezones.values()}
        self._zones = await asyncio.to_thread(lambda: {name: ZoneInfo(name) for name in names})
        await asyncio.to_thread(cost, "gpt-4o", Usage(1, 1))  # the first one takes half a second

    async def stop(self) -> None:
        await self._ledger.write()
        if self._book is not None:
            await self._book.close()

    @classmethod
    def summary(cls, config: BudgetOptions) -> str:
        return ", ".join(f"{each.name} per {each.period}" for each in config.budgets) or "no limit"

    def endpoints(self) -> Sequence[Endpoint]:
        if self._book is None:
            return ()
        return [endpoint(self._book, lambda: self.now(UTC).date(), self.config.keep_usage)]

    @classmethod
    async def used(
        cls, config: BudgetOptions, store: Store, given: Mapping[str, str], form: str | None
    ) -> Sequence[str]:
        """What all processes have written to a store, for `dragoman usage`."""
        return await printed(store, given, current(UTC).date(), config.keep_usage, form)

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        name = request.caller.name or request.caller.id
        now = self.now(self._zone(name))
        accounts = self._accounts(request.caller, now)
        if not accounts and self._book is None:
            return await call_next(request)
        spent = await self._ledger.spent([account.key for account in accounts])
        for account, amount in zip(accounts, spent, strict=True):
            if amount >= account.limit:
                self._refused.labels(account.budget.name).inc()
                note(budget_refused_by=account.budget.name)
                raise _refusal(account)
        bill = Bill(request.caller, request.model, f"{now:%Y-%m-%d}", accounts)
        request.on_finish(partial(self._settle, bill))  # also without an answer
        response = bill.response = await call_next(request)
        self._warn(response, accounts, spent)
        return response

    def _accounts(self, caller: Caller, now: datetime) -> list[Account]:
        name = caller.name or caller.id
        return [
            _account(budget, caller.id, now)
            for budget in self.config.budgets
            if not budget.callers or any(fnmatchcase(name, glob) for glob in budget.callers)
        ]

    def _zone(self, name: str) -> ZoneInfo:
        zones = self.config.timezones.items()
        fitting = (zone for glob, zone in zones if fnmatchcase(name, glob))
        return self._zones[next(fitting, self.config.timezone)]

    def _warn(
        self, response: ChatResponse, accounts: Sequence[Account], spent: Sequence[int]
    ) -> None:
        """Say which budgets are nearly spent."""
        told = []
        for account, amount in zip(accounts, spent, strict=True):
            if amount >= account.limit * account.budget.soft:
                self._warned.labels(account.budget.name).inc()
                told.append(f"{account.budget.name};spent={amount / account.limit:.2f}")
        if told:
            response.headers["x-dragoman-budget"] = ", ".join(told)

    async def _settle(self, bill: Bill, outcome: Outcome) -> None:
        usage = outcome.usage if bill.is_due else None
        money = None if usage is None else self._cost(bill.model, usage)
        self._note(bill, usage, money)
        if usage is None:
            return
        tokens = usage.prompt_tokens + usage.completion_tokens
        for account in bill.accounts:
            amount = tokens if account.budget.usd is None else money or 0
            await self._ledger.add(account.key, amount, account.ttl)

    def _note(self, bill: Bill, usage: Usage | None, money: int | None) -> None:
        """What cost nothing and brought no answer is no usage."""
        response = bill.response
        if self._book is None or (usage is None and (response is None or not response.ok)):
            return
        amounts = amounts_of(usage, money, is_local=not bill.is_due)
        self._book.note(bill.day, bill.caller.name or bill.caller.id, bill.model, amounts)

    def _cost(self, model: str, usage: Usage) -> int | None:
        """In billionths of a dollar; None if no price is known."""
        for price in self.config.prices:
            if any(fnmatchcase(model, glob) for glob in price.models):
                return int(_at(price, usage) * NANO)
        found = cost(model, usage, base_url=self.services.upstream)
        if found is None:
            self._unpriced.inc()
            return None
        return int(found.total * NANO)


def _at(price: Price, usage: Usage) -> Decimal:
    cached = price.input if price.cached_input is None else price.cached_input
    plain = max(0, usage.prompt_tokens - usage.cached_tokens)
    paid = plain * price.input + usage.cached_tokens * cached
    return (paid + usage.completion_tokens * price.output) / Decimal(1_000_000)


def _account(budget: Budget, caller: str, now: datetime) -> Account:
    period = period_at(now, budget.period)
    who = caller if budget.per == "caller" else ""
    tag = blake2b(who.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    ttl = 0 if period.seconds is None else period.seconds + MARGIN
    limit = budget.tokens if budget.usd is None else int(budget.usd * NANO)
    return Account(budget, f"{{{tag}}}:{budget.name}:{period.name}", ttl, limit or 0)


def _refusal(account: Account) -> InsufficientQuota:
    budget = account.budget
    amount = f"{budget.tokens} tokens" if budget.usd is None else f"{budget.usd} US dollars"
    per = "" if budget.period == "total" else f" per {budget.period}"
    return InsufficientQuota(
        f"You exceeded your current quota: the budget {budget.name}, {amount}{per}, is spent.",
        headers={"x-should-retry": "false"},
    )
