"""The sessions that all processes share, on Redis: one script to enter, and one to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .log import LEASE

if TYPE_CHECKING:
    from proxy.plugin import Scripting

    from .log import Edit, Place

SMALL = 32_768
"""Bytes of a text that is written anew each time: a text that grows takes up to twice its room.  Of
a longer one the new part alone goes to replicas and files."""

# KEYS of all: text, lease.
# ARGV: token, milliseconds of the lease, and of the text.
ENTER = """
if not redis.call("SET", KEYS[2], ARGV[1], "NX", "PX", ARGV[2]) then return false end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return redis.call("GET", KEYS[1]) or ""
"""

# ARGV: token, milliseconds of the text, expected length, head, start, stop, tail.
LEAVE = """
local expected, start, stop = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local head, tail = ARGV[4], ARGV[7]
if redis.call("GET", KEYS[2]) ~= ARGV[1] then
  if #tail > 0 and redis.call("GETRANGE", KEYS[1], -#tail, -1) == tail then return 1 end
  return 0
end
if redis.call("STRLEN", KEYS[1]) ~= expected then
  redis.call("DEL", KEYS[2])
  return 0
end
local only_appends = head == "" and start == 0 and stop == expected
if only_appends and (tail == "" or expected >= SMALL) then
  if tail ~= "" then redis.call("APPEND", KEYS[1], tail) end
else
  local middle = ""
  if stop > start then middle = redis.call("GETRANGE", KEYS[1], start, stop - 1) end
  local text = head .. middle .. tail
  if text == "" then redis.call("DEL", KEYS[1]) else redis.call("SET", KEYS[1], text) end
end
redis.call("PEXPIRE", KEYS[1], ARGV[2])
redis.call("DEL", KEYS[2])
return 1
""".replace("SMALL", str(SMALL))

# ARGV: token, milliseconds; none gives the lease back.
HOLD = """
if redis.call("GET", KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] == "" then return redis.call("DEL", KEYS[2]) end
return redis.call("PEXPIRE", KEYS[2], ARGV[2])
"""

_LEASE = str(round(LEASE * 1000))


class SharedLog:
    """The sessions of all processes."""

    def __init__(self, store: Scripting, ttl: float) -> None:
        self._store = store
        self._ttl = str(max(1, round(ttl * 1000)))

    async def enter(self, place: Place, token: str) -> bytes | None:
        text: bytes | None = await self._store.run(ENTER, place, token, _LEASE, self._ttl)
        return text

    async def leave(self, place: Place, token: str, edit: Edit) -> bool:
        head, tail = edit.head.decode(), edit.tail.decode()
        numbers = str(edit.start), str(edit.stop)
        words = (token, self._ttl, str(edit.expected), head, *numbers, tail)
        return bool(await self._store.run(LEAVE, place, *words))

    async def renew(self, place: Place, token: str) -> None:
        await self._store.run(HOLD, place, token, _LEASE)

    async def release(self, place: Place, token: str) -> None:
        await self._store.run(HOLD, place, token, "")
