"""The plugin: refuses who has spent his budget, and adds up what each exchange has cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self
from zoneinfo import ZoneInfo

from proxy.plugin import Plugin, RateLimited, Usage, cost, note

from .admin import endpoint, printed
from .ledger import MARGIN, Entry, Ledger
from .options import BudgetOptions
from .periods import current, period_at
from .running import Running
from .usage import UsageBook, amounts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from datetime import datetime, tzinfo

    from proxy.plugin import (
        Caller,
        CallNext,
        ChatRequest,
        ChatResponse,
        Endpoint,
        Forwarded,
        Outcome,
        Report,
        Services,
        Store,
    )

    from .options import Budget, Price

NANO = 1_000_000_000
"""Money is counted in billionths of a dollar."""

MOST = 10**15
"""Billionths of a dollar that one answer may cost: an upstream reports any number of tokens, and a
sum that is no 64 bit number would be refused by Redis, with all that is written with it."""


class InsufficientQuota(RateLimited):
    type: ClassVar[str] = "insufficient_quota"
    code: ClassVar[str] = "insufficient_quota"


class Account(NamedTuple):
    """A budget of somebody in this period."""

    budget: Budget
    key: str
    holder: str
    """Whose budget it is, in whatever period."""
    ttl: int
    limit: int


@dataclass(slots=True)
class Bill:
    """What an exchange is charged to."""

    caller: Caller
    model: str
    day: str
    accounts: Sequence[Account]
    aside: Sequence[int]
    """What was set aside of each account."""
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
        self._running = Running()
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

    def inherit(self, before: Self) -> None:
        self._ledger, self._running = before._ledger, before._running
        if before.config.keep_usage == self.config.keep_usage:
            self._book = before._book

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
        now = self._now(request.caller)
        accounts = self._accounts(request.caller, now)
        if not accounts and self._book is None:
            return await call_next(request)
        spent = await self._unspent(accounts)
        aside = self._running.begin(accounts)
        bill = Bill(request.caller, request.model, f"{now:%Y-%m-%d}", accounts, aside)
        request.on_finish(partial(self._settle, bill))  # also without an answer
        response = bill.response = await call_next(request)
        self._warn(response.headers, accounts, spent)
        return response

    async def admit(self, forwarded: Forwarded) -> None:
        accounts = self._accounts(forwarded.caller, self._now(forwarded.caller))
        if accounts or self._book is not None:
            forwarded.on_usage(partial(self._charge, forwarded))
        if not accounts:
            return
        spent = await self._unspent(accounts)
        if forwarded.method == "POST":
            amounts = self._running.begin(accounts)
            forwarded.on_finish(partial(self._give_back, accounts, amounts))
        self._warn(forwarded.headers, accounts, spent)

    async def _unspent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """What has been spent of each; InsufficientQuota if that is all, with what is running."""
        spent = await self._ledger.spent([account.key for account in accounts])
        for account, amount in zip(accounts, spent, strict=True):
            if amount + self._running.aside(account) >= account.limit:
                self._refused.labels(account.budget.name).inc()
                note(budget_refused_by=account.budget.name)
                raise _refusal(account)
        return spent

    def _accounts(self, caller: Caller, now: datetime) -> list[Account]:
        return [
            _account(budget, caller.id, now)
            for budget in self.config.budgets
            if caller.fits(budget.callers)
        ]

    def _now(self, caller: Caller) -> datetime:
        return self.now(self._zone(caller))

    def _zone(self, caller: Caller) -> ZoneInfo:
        zones = self.config.timezones.items()
        fitting = (zone for pattern, zone in zones if caller.fits((pattern,)))
        return self._zones[next(fitting, self.config.timezone)]

    def _warn(
        self,
        headers: MutableMapping[str, str],
        accounts: Sequence[Account],
        spent: Sequence[int],
    ) -> None:
        """Say which budgets are nearly spent."""
        told = []
        for account, amount in zip(accounts, spent, strict=True):
            if amount >= account.limit * account.budget.soft:
                self._warned.labels(account.budget.name).inc()
                told.append(f"{account.budget.name};spent={amount / account.limit:.2f}")
        if told:
            headers["x-dragoman-budget"] = ", ".join(told)

    async def _settle(self, bill: Bill, outcome: Outcome) -> None:
        try:
            usage = outcome.usage if bill.is_due else None
            money = self._cost(bill.accounts, usage, bill.model)
            self._note(bill, usage, money)
            if usage is not None:
                await self._add(bill.accounts, usage, money)
        finally:
            self._running.end(bill.accounts, bill.aside)

    def _note(self, bill: Bill, usage: Usage | None, money: int | None) -> None:
        """What cost nothing and brought no answer is no usage."""
        response = bill.response
        if self._book is None or (usage is None and (response is None or not response.ok)):
            return
        amounts = amounts_of(usage, money, is_local=not bill.is_due)
        self._book.note(bill.day, _name(bill.caller), bill.model, amounts)

    async def _charge(self, forwarded: Forwarded, report: Report) -> None:
        """Add up what an answer cost, in the period in which it ended: a WebSocket lasts.
        InsufficientQuota if a budget is spent with that."""
        now = self._now(forwarded.caller)
        accounts = self._accounts(forwarded.caller, now)
        models = [name for name in (report.model, forwarded.model) if name]
        money = self._cost(accounts, report.usage, *models)
        if self._book is not None:
            amounts = amounts_of(report.usage, money, is_local=False)
            model = next(iter(models), "")
            self._book.note(f"{now:%Y-%m-%d}", _name(forwarded.caller), model, amounts)
        exhausted = await self._add(accounts, report.usage, money)
        if exhausted is not None:
            raise _refusal(exhausted)

    async def _give_back(
        self, accounts: Sequence[Account], amounts: Sequence[int], _: Outcome
    ) -> None:
        self._running.end(accounts, amounts)

    async def _add(
        self, accounts: Sequence[Account], usage: Usage, money: int | None
    ) -> Account | None:
        """Add to each account; one that is spent with that, if there is one."""
        tokens = usage.prompt_tokens + usage.completion_tokens
        entries = []
        for account in accounts:
            amount = tokens if account.budget.usd is None else money or 0
            self._running.learn(account, amount)
            entries.append(Entry(account.key, amount, account.ttl))
        sums = await self._ledger.add(entries)
        spent = (each for each, sum_ in zip(accounts, sums, strict=True) if sum_ >= each.limit)
        return next(spent, None)

    def _cost(self, accounts: Sequence[Account], usage: Usage | None, *models: str) -> int | None:
        """In billionths of a dollar, by the first of the names that has a price; None if none has,
        or nobody asks."""
        is_asked = self._book is not None or any(account.budget.usd for account in accounts)
        if usage is None or not is_asked:
            return None
        for price in self.config.prices:
            if any(fnmatchcase(model, glob) for model in models for glob in price.models):
                return _nano(_at(price, usage))
        for model in models:
            found = cost(model, usage, base_url=self.services.upstream)
            if found is not None:
                return _nano(found.total)
        self._unpriced.inc()
        return None


def _nano(dollars: Decimal) -> int:
    return min(int(dollars * NANO), MOST)


def _name(caller: Caller) -> str:
    return caller.name or caller.id


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
    holder = f"{{{tag}}}:{budget.name}"
    return Account(budget, f"{holder}:{period.name}", holder, ttl, limit or 0)


def _refusal(account: Account) -> InsufficientQuota:
    budget = account.budget
    amount = f"{budget.tokens} tokens" if budget.usd is None else f"{budget.usd} US dollars"
    per = "" if budget.period == "total" else f" per {budget.period}"
    return InsufficientQuota(
        f"You exceeded your current quota: the budget {budget.name}, {amount}{per}, is spent.",
        headers={"x-should-retry": "false"},
    )
