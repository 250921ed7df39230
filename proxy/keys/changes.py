"""What may be done to the keys of a store.  Pure: from those that there are to those to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from .table import Keys, StoredKey


def with_new(keys: Keys, made: StoredKey, now: datetime) -> Keys:
    """One key more.  ConfigError if the name has one: who revokes it must know whom he means."""
    if any(key.name == made.name for key in keys):
        advice = f"`dragoman keys rotate {made.name}` replaces it, `revoke` takes it away"
        raise ConfigError([f"{made.name} has a key: {advice}"])
    return (*_tidy(keys, now), made)


def without(keys: Keys, name: str) -> Keys:
    """None of a name's keys.  ConfigError if there are none."""
    left = tuple(key for key in keys if key.name != name)
    if len(left) == len(keys):
        raise ConfigError([f"there is no key of {name} in the store"])
    return left


def rotated(
    keys: Keys,
    name: str,
    sha256: str,
    now: datetime,
    grace: timedelta,
    expires: datetime | None,
) -> Keys:
    """Another key with the settings of a name's last, and an end for those before it."""
    before = [key for key in keys if key.name == name]
    others = without(keys, name)
    last = before[-1]  # by the order in the table: clocks of machines differ
    expires = expires or last.expires
    if expires is not None and expires <= now:
        raise ConfigError([f"the key of {name} is over; say until when the next is: --expires 90d"])
    made = {"sha256": sha256, "created": now, "expires": expires}
    end = _sum(now, grace)
    ending = tuple(
        key.model_copy(update={"expires": end if key.expires is None else min(end, key.expires)})
        for key in before
    )
    return _tidy((*others, *ending, last.model_copy(update=made)), now)


def _sum(now: datetime, grace: timedelta) -> datetime:
    try:
        return now + grace
    except OverflowError:
        raise ConfigError(["--grace: is longer than there are years"]) from None


def _tidy(keys: Keys, now: datetime) -> Keys:
    """Without keys that are over, where their name has another."""
    alive = {key.name for key in keys if key.expires is None or key.expires > now}
    return tuple(
        key for key in keys if key.expires is None or key.expires > now or key.name not in alive
    )
