"""What was used on each day, by caller and model: as hashes on Redis, or in this process."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.plugin import Scripting

PAGE = 1_000
"""Fields that one script reads: it is done within a few milliseconds."""

KEPT_HERE = 100_000
"""Rows in the memory of a process; beyond that, the oldest days are forgotten."""


class Row(NamedTuple):
    """Whose usage it is, of what."""

    caller: str
    model: str


Amounts: TypeAlias = Counter[str]
"""Requests, tokens of each kind, and billionths of a dollar."""

# KEYS: the hash of a day.  ARGV: the process, the number of the batch, the seconds that the hash
# lives, then fields and amounts.  A batch that was not answered in time may have been added: the
# hash knows the last one of each process.
ADD = """
if tonumber(redis.call("HGET", KEYS[1], ARGV[1]) or 0) >= tonumber(ARGV[2]) then return 0 end
for i = 4, #ARGV, 2 do redis.call("HINCRBY", KEYS[1], ARGV[i], ARGV[i+1]) end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("EXPIRE", KEYS[1], ARGV[3])
return 1
"""

# KEYS: the hash of a day.  ARGV: where the last page ended, and how many fields to look at.
READ = 'return redis.call("HSCAN", KEYS[1], ARGV[1], "COUNT", ARGV[2])'


class Batch(NamedTuple):
    """Amounts of one day that are written in one step."""

    day: str
    number: int
    rows: Mapping[Row, Amounts]


class SharedDays:
    """The days that all processes share.  Its methods raise StoreUnavailable."""

    def __init__(self, store: Scripting, process: str, keep: float) -> None:
        self._store = store
        self._process = f"\n{process}"  # no field of a row begins so
        self._seconds = str(max(1, int(keep)))

    async def add(self, batch: Batch) -> None:
        """Add a batch: once, however often it is tried.  They come in the order of their numbers."""
        words = [
            word
            for row, amounts in batch.rows.items()
            for name, amount in amounts.items()
            for word in (_field(row, name), str(amount))
        ]
        given = (self._process, str(batch.number), self._seconds, *words)
        await self._store.run(ADD, [_key(batch.day)], *given)

    async def read(self, day: str) -> dict[Row, Amounts]:
        return await read_day(self._store, day)


async def read_day(store: Scripting, day: str) -> dict[Row, Amounts]:
    """What all processes have written of a day.  StoreUnavailable."""
    rows: defaultdict[Row, Amounts] = defaultdict(Counter)
    cursor = "0"
    while True:
        position, found = await store.run(READ, [_key(day)], cursor, str(PAGE))
        for field, amount in zip(found[::2], found[1::2], strict=True):
            caller, _, rest = field.decode().partition("\n")
            model, _, name = rest.rpartition("\n")
            if caller:
                rows[Row(caller, model)][name] = int(amount)  # a page may repeat a field
        cursor = position.decode()
        if cursor == "0":
            return dict(rows)


class LocalDays:
    """The days of one process, since it started."""

    def __init__(self) -> None:
        self._days: dict[str, dict[Row, Amounts]] = {}

    async def add(self, batch: Batch) -> None:
        day = self._days.setdefault(batch.day, {})
        for row, amounts in batch.rows.items():
            day.setdefault(row, Counter()).update(amounts)
        while len(self._days) > 1 and sum(map(len, self._days.values())) > KEPT_HERE:
            del self._days[min(self._days)]

    async def read(self, day: str) -> dict[Row, Amounts]:
        return self._days.get(day, {})

    def forget(self, before: str) -> None:
        """Forget the days before one."""
        for day in [day for day in self._days if day < before]:
            del self._days[day]


def _key(day: str) -> str:
    return f"{{usage:{day}}}"


def _field(row: Row, name: str) -> str:
    return f"{row.caller}\n{row.model}\n{name}"
