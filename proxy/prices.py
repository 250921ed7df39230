"""What tokens cost: by a table that genai-prices brings along, or by one's own prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import ModelInfo, Provider

    from .usage import Usage

_MILLION = Decimal(1_000_000)

LONGEST_NAME = 200
"""No model is called by more characters; the table would remember whatever clients type."""

_KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
}


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of each kind.  None: as other input."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars, and whose price it is."""

    input: Decimal
    output: Decimal
    provider: str
    model: str

    @property
    def total(self) -> Decimal:
        return self.input + self.output


def cost(
    model: str,
    usage: Usage,
    *,
    provider: str | None = None,
    base_url: str = "",
    overrides: Mapping[str, Price] = MappingProxyType({}),
) -> Cost | None:
    """What these tokens cost, or None if the price is not known.

    Whose price it is follows from `provider`, else from the host of `base_url`, else from the
    model's name.  `overrides` are prices by names or globs of models; the first that fits wins.

    The first call imports the table, which takes half a second: not on an event loop.  Nothing is
    fetched.
    """
    for pattern, price in overrides.items():
        if fnmatchcase(model, pattern):
            return Cost(*_at(price, usage), "", pattern)
    return _listed(model, usage, provider, base_url)


def _at(price: Price, usage: Usage) -> tuple[Decimal, Decimal]:
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    plain = max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens)
    paid = plain * price.input + usage.cached_tokens * cached + usage.cache_write_tokens * written
    return paid / _MILLION, usage.completion_tokens * price.output / _MILLION


def _listed(model: str, usage: Usage, provider: str | None, base_url: str) -> Cost | None:
    found = _known(model, provider, base_url) if len(model) <= LONGEST_NAME else None
    if found is None or usage.cached_tokens + usage.cache_write_tokens > usage.prompt_tokens:
        return None
    whose, known = found
    price = _plain(known)
    if price is not None:
        return Cost(*_at(price, usage), whose.id, known.id)
    from genai_prices import Usage as Tokens

    tokens = Tokens(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.completion_tokens,
    )
    try:
        reckoned = known.calc_price(tokens, whose)
    except ValueError:
        return None
    return Cost(reckoned.input_price, reckoned.output_price, whose.id, known.id)


@lru_cache(maxsize=1_024)
def _known(model: str, provider: str | None, base_url: str) -> tuple[Provider, ModelInfo] | None:
    """Whose model it is, and which; remembered, as a search of the table takes 0.2 ms."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        named = provider or _provider_at(base_url)
        return get_snapshot().find_provider_model(model, None, named, None)
    except LookupError:
        return None


def _plain(known: ModelInfo) -> Price | None:
    """What a model costs where the tokens' number is all that matters.

    The table itself takes 0.25 ms to reckon with it, and budgets ask on the event loop.
    """
    prices = vars(known.get_prices(datetime.now(UTC)))
    found = {name: prices[key] for key, name in _KEYS.items() if prices.get(key) is not None}
    if not {"input", "output"} <= found.keys() or prices.get("requests_kcount") is not None:
        return None
    if not all(isinstance(value, Decimal) for value in found.values()):
        return None  # it depends on the length of the prompt
    return Price(**found)


def context_window(model: str, *, provider: str | None = None, base_url: str = "") -> int | None:
    """How many tokens the model takes, or None if that is not known."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, known = get_snapshot().find_provider_model(
            model, None, provider or _provider_at(base_url), None
        )
    except LookupError:
        return None
    return known.context_window


def _provider_at(base_url: str) -> str | None:
    """Whose API it is; None for a host that nobody is known by."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider(None, None, base_url).id
    except LookupError:
        return None
