"""What tokens cost: by a table that genai-prices brings along, or by one's own prices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .usage import Usage

_MILLION = Decimal(1_000_000)


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
            return _at(price, pattern, usage)
    return _listed(model, usage, provider, base_url)


def _at(price: Price, pattern: str, usage: Usage) -> Cost:
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    plain = max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens)
    paid = plain * price.input + usage.cached_tokens * cached + usage.cache_write_tokens * written
    return Cost(paid / _MILLION, usage.completion_tokens * price.output / _MILLION, "", pattern)


def _listed(model: str, usage: Usage, provider: str | None, base_url: str) -> Cost | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    tokens = Tokens(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.completion_tokens,
    )
    try:
        found = calc_price(tokens, model, provider_id=provider or _provider_at(base_url))
    except (LookupError, ValueError):  # no such model; more tokens from a cache than there are
        return None
    return Cost(found.input_price, found.output_price, found.provider.id, found.model.id)


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
