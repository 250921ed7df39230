"""The table of keys in a store: one value, changed only by who has read it as it is."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from proxy.settings import Key
from proxy.store import Scripting, StoreUnavailable, Versioned, namespaced
from proxy.store.contract import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from proxy.store import Store

PREFIX = "dragoman-keys:"
"""No plugin's, whatever its name: those begin with "dragoman:"."""

ATTEMPTS = 200
"""How often a change is tried, while others change the table, too."""

USE_DAYS = 400
"""How long it is remembered when a key was last used."""

_FORMAT = Versioned(1)
_TABLE = "table"

# The value is a revision, 32 random hex digits, and behind it JSON.  They are one value, without a
# time to live: who looks whether there is news keeps the whole table among what was lately used.
# A counter in place of the random digits would say "nothing new" of a Redis that has lost a part
# of its past and then come as far again.
_REVISION = 32
_READ = """
local revision = redis.call("GETRANGE", KEYS[1], 0, 31)
if revision ~= "" and revision == ARGV[1] then return 1 end
return redis.call("GET", KEYS[1])
"""
_REPLACE = """
if redis.call("GETRANGE", KEYS[1], 0, 31) ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[2])
return 1
"""


class StoredKey(Key):
    """A key in the store.  One name has several of them while a rotation is under way."""

    created: datetime


Keys: TypeAlias = tuple[StoredKey, ...]


class UnreadableTable(Exception):
    """The table is damaged, or a newer version has written it: nobody may guess what it grants."""


@dataclass(frozen=True, slots=True)
class State:
    """The table at one time."""

    revision: str
    """Empty where there is no table."""
    keys: Keys


class KeyTable:
    """The table of keys; every method may raise StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = namespaced(store, PREFIX)
        assert isinstance(self._store, Scripting)
        self._scripting: Scripting = self._store

    async def read(self) -> State:
        """The table.  UnreadableTable."""
        return await self.news("") or State("", ())

    async def news(self, known: str) -> State | None:
        """The table; None if it still has the revision that is known.  UnreadableTable."""
        found = await self._scripting.run(_READ, [_TABLE], known)
        if found == 1:
            return None
        if found is None:
            return State("", ())
        return await asyncio.to_thread(_decoded, found)  # a large one takes its time

    async def change(self, edit: Callable[[Keys], Keys]) -> Keys:
        """Put in place of the keys what `edit` makes of them; it is called again if somebody else
        was faster.  What it raises leaves the table as it is."""
        for attempt in range(ATTEMPTS):
            before = await self.read()
            keys = edit(before.keys)
            value = secrets.token_hex(_REVISION // 2) + _encoded(keys)
            check_size(value.encode())
            if await self._scripting.run(_REPLACE, [_TABLE], before.revision, value):
                return keys
            await asyncio.sleep(random.uniform(0, 0.005 * min(10, attempt + 1)))
        raise StoreUnavailable("others change the keys all the time")

    async def note_use(self, hashes: Iterable[str], day: date) -> None:
        """Keep for each of these keys the last day on which it was used."""
        for sha256 in hashes:
            value = day.isoformat().encode()
            await self._store.put(_use(sha256), value, ttl=USE_DAYS * 86_400)

    async def last_uses(self, hashes: Sequence[str]) -> list[date | None]:
        """The last day on which each was used, as far as that is known."""
        found = await self._store.get_many([_use(sha256) for sha256 in hashes])
        return [_day(value) for value in found]


def _use(sha256: str) -> str:
    return f"used:{sha256[:16]}"


def _day(value: bytes | None) -> date | None:
    try:
        return date.fromisoformat((value or b"").decode())
    except ValueError:
        return None


def _encoded(keys: Keys) -> str:
    rows = [key.model_dump(mode="json", exclude_defaults=True) for key in keys]
    return _FORMAT.encode({"keys": rows}).decode()


def _decoded(value: bytes) -> State:
    fields = _FORMAT.decode(value[_REVISION:])
    rows = None if fields is None else fields.get("keys")
    if not isinstance(rows, list):
        raise UnreadableTable
    try:
        keys = tuple(StoredKey.model_validate(row) for row in rows)
    except ValidationError:
        raise UnreadableTable from None  # the error would quote hashes
    return State(value[:_REVISION].decode("latin-1"), keys)
