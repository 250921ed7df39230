"""What compaction saves, and from how many tokens on it pays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

from proxy.plugin import Usage, context_window, cost

if TYPE_CHECKING:
    from decimal import Decimal

GROWTH = 470
"""Tokens that a turn adds: 120 of a user and 350 of an assistant."""

SUMMARISER, OUTPUT = 0.2, 6
"""Prices of the summing-up model's input and of its output, in the chat's and its own input's."""

WINDOW_SHARE = 0.7
"""Of a model's window that a prompt may fill before it is compacted, whatever the marks say."""

_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What reading input from the cache and writing it there costs, as shares of the full price;
    and how many tokens the model's window holds."""

    cached: float
    write: float
    window: int | None


def terms(model: str, base_url: str) -> Terms | None:
    """The terms of a model, or None if nothing is known of it.  Takes a while: remember it."""
    plain, cached, write = (
        cost(model, usage, base_url=base_url)
        for usage in (
            Usage(_MANY, 0),
            Usage(_MANY, 0, cached_tokens=_MANY),
            Usage(_MANY, 0, cache_write_tokens=_MANY),
        )
    )
    if plain is None or cached is None or not plain.input:
        return None
    written = float(write.input / plain.input) if write is not None and write.input else 1.0
    window = context_window(model, base_url=base_url)
    return Terms(float(cached.input / plain.input), max(1.0, written), window)


def best_high(low: int, head: int, segment: int, terms: Terms) -> int:
    """The high mark that costs least: L + n g, after n = sqrt(2 ((w - c)(L - S) + M) / (c g)) turns.

    c and w are the terms; L the tokens after a compaction, S those of the head, g those that a turn
    adds, M the cost of the summary.  The larger the discount on cached input, the longer a prompt
    may grow before a cold cache pays.
    """
    made = SUMMARISER * OUTPUT * segment
    gain = 2 * ((terms.write - terms.cached) * (low - head) + made)
    turns = sqrt(max(0.0, gain / (max(terms.cached, 0.01) * GROWTH)))
    return max(round(low * 1.6), round(low + turns * GROWTH))


def saved(model: str, usage: Usage, *, before: int, newest: int, base_url: str) -> Decimal | None:
    """US dollars that a request costs less than if all had been sent; below 0 if it costs more.

    `before` are the tokens that the prompt had when it came, `newest` those of them that the prompt
    before it cannot have had.  An upstream that reads nothing from a cache now is taken for one
    that has none.
    """
    everything = replace(
        usage,
        prompt_tokens=before,
        cached_tokens=before - newest if usage.cached_tokens else 0,
        cache_write_tokens=newest if usage.cache_write_tokens else 0,
    )
    paid = cost(model, usage, base_url=base_url)
    other = cost(model, everything, base_url=base_url)
    return None if paid is None or other is None else other.input - paid.input
