"""What one request asks of the limits: their buckets, and how much of each."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.plugin import Caller, ChatRequest, Forwarded

    from .options import Limit
    from .outputs import Estimate

Unit: TypeAlias = Literal["requests", "tokens", "concurrent"]

SHARED_TAG = "all"
"""The part in braces of all keys, where one of the limits counts for several callers."""

REMEMBERED = 10_000
"""Callers with their sessions and models whose keys are remembered."""

MODEL = 200
"""Characters of a model's name by which it is told apart: clients write it."""


class Demand(NamedTuple):
    """What a request asks of one bucket.

    It is let through if `need` fits, and `charge` is taken: `need` is what it will probably use,
    never more than the bucket holds, and `charge` what it can use at most.
    """

    key: str
    unit: Unit
    limit: Limit
    capacity: float
    rate: float
    """What leaks out of the bucket, per microsecond; 0 where requests hold a place until they end."""
    need: float = 1.0
    charge: float = 1.0

    def part(self, processes: int) -> Demand:
        """The same of one bucket of several, which together have its size."""
        capacity = max(1.0, self.capacity // processes)
        return self._replace(
            capacity=capacity, rate=self.rate / processes, need=min(self.need, capacity)
        )


class Who(NamedTuple):
    """What limits tell requests apart by."""

    caller: str
    asker: Caller
    session: str
    model: str
    is_any_model: bool = False
    """Nobody knows which, and it may be any: limits on models hold."""

    @classmethod
    def asks(cls, request: ChatRequest | Forwarded) -> Who:
        caller = request.caller
        model = (request.model or "")[:MODEL]
        return cls(caller.id, caller, request.session or "", model)


class Demands:
    """Finds the limits that hold for a request, and what it asks of them."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = limits
        # Keys with the same tag lie on one server of a Cluster, as one script needs them.
        self._by_caller = all(limit.per not in ("model", "global") for limit in limits)
        self.count_tokens = any(limit.tokens for limit in limits)
        self._remembered = lru_cache(REMEMBERED)(self._find)

    def of(self, request: ChatRequest) -> tuple[Demand, ...]:
        """What the request asks, but for its tokens, which nobody has counted yet."""
        return self._remembered(Who.asks(request))

    def of_forwarded(self, forwarded: Forwarded) -> tuple[Demand, ...]:
        """The same of a request to another path.  Its tokens are charged when they are known: it
        needs a bucket that is not empty."""
        who = Who.asks(forwarded)._replace(is_any_model=forwarded.may_be_any_model)
        return tuple(
            demand._replace(charge=0.0) if demand.unit == "tokens" else demand
            for demand in self._remembered(who)
        )

    def _find(self, who: Who) -> tuple[Demand, ...]:
        tag = _digest(who.caller) if self._by_caller else SHARED_TAG
        return tuple(
            demand
            for limit in self._limits
            if _holds(limit, who)
            for demand in _demands(
                limit, f"{{{tag}}}:{limit.name}:{_digest(*_counted(limit, who))}"
            )
        )


def with_tokens(demands: Sequence[Demand], estimate: Estimate) -> tuple[Demand, ...]:
    """The same, now that the tokens are known as well as they can be."""
    return tuple(
        demand._replace(
            need=min(estimate.expected, demand.capacity),
            charge=min(estimate.most, demand.capacity),
        )
        if demand.unit == "tokens"
        else demand
        for demand in demands
    )


def _holds(limit: Limit, who: Who) -> bool:
    models = limit.match.models
    fits = who.is_any_model or not models or any(fnmatchcase(who.model, g) for g in models)
    if not fits:
        return False
    return who.asker.fits(limit.match.callers)


def _demands(limit: Limit, key: str) -> Iterator[Demand]:
    if limit.requests is not None:
        yield Demand(f"{key}:requests", "requests", limit, *_bucket(limit, limit.requests))
    if limit.tokens is not None:
        yield Demand(f"{key}:tokens", "tokens", limit, *_bucket(limit, limit.tokens))
    if limit.concurrent is not None:
        yield Demand(f"{key}:concurrent", "concurrent", limit, limit.concurrent, 0.0)


def _counted(limit: Limit, who: Who) -> tuple[str, ...]:
    """Who has an allowance of his own.  Requests of a caller without a session share one."""
    if limit.per == "caller":
        return (who.caller,)
    if limit.per == "session":
        return (who.caller, who.session)
    if limit.per == "model":
        return (who.model,)
    return (who.caller, who.model) if limit.per == "caller+model" else ()


def _bucket(limit: Limit, amount: int) -> tuple[float, float]:
    """How much fits in, and how much leaks out of it in a microsecond."""
    burst = limit.period if limit.burst is None else limit.burst
    return max(1.0, amount * burst / limit.period), amount / (limit.period * 1e6)


def _digest(*parts: str) -> str:
    """A name for a key: clients choose models and sessions, and callers are nobody's business."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=12).hexdigest()
