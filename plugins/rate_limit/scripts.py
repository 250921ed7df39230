"""The buckets that all processes share, on Redis: each decision is one script there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .buckets import LEASE, Levels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.plugin import Scripting

    from .demand import Demand

# Common to all: the time is the server's, unless a test brings its own.  A bucket is kept as its
# level and the time of that, with all digits: Lua's own way to write numbers would round them.
_BUCKETS = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000000 + time[2]
end

local function level(key, rate)
  if rate == 0 then
    redis.call("ZREMRANGEBYSCORE", key, "-inf", string.format("%.0f", now))
    return redis.call("ZCARD", key)
  end
  local kept = redis.call("GET", key)
  if not kept then return 0 end
  local was, at = string.match(kept, "(%S+) (%S+)")
  return math.max(0, tonumber(was) - math.max(0, now - tonumber(at)) * rate)
end

local function fill(key, rate, to)
  local lifetime = math.ceil(to / rate / 1000) + 1000
  local kept = string.format("%.17g %.0f", to, now)
  redis.call("SET", key, kept, "PX", string.format("%.0f", lifetime))
end

local function hold(key, lease)
  redis.call("ZADD", key, string.format("%.0f", now + LEASE), lease)
  redis.call("PEXPIRE", key, string.format("%.0f", LEASE / 1000))
end
""".replace("LEASE", str(LEASE))

# ARGV: time, lease, then rate, capacity, need and charge for each key.
RESERVE = (
    _BUCKETS
    + """
local allowed, levels = 1, {}
for i, key in ipairs(KEYS) do
  local rate, capacity, need = tonumber(ARGV[4*i-1]), tonumber(ARGV[4*i]), tonumber(ARGV[4*i+1])
  levels[i] = level(key, rate)
  if levels[i] + need > capacity then allowed = 0 end
end
if allowed == 1 then
  for i, key in ipairs(KEYS) do
    local rate, charge = tonumber(ARGV[4*i-1]), tonumber(ARGV[4*i+2])
    levels[i] = levels[i] + charge
    if rate == 0 then hold(key, ARGV[2]) else fill(key, rate, levels[i]) end
  end
end
local answer = {allowed}
for i, each in ipairs(levels) do answer[i+1] = string.format("%.17g", each) end
return answer
"""
)

# ARGV: time, lease, then rate and surplus for each key.
SETTLE = (
    _BUCKETS
    + """
for i, key in ipairs(KEYS) do
  local rate, surplus = tonumber(ARGV[2*i+1]), tonumber(ARGV[2*i+2])
  if rate == 0 then
    redis.call("ZREM", key, ARGV[2])
  else
    fill(key, rate, math.max(0, level(key, rate) - surplus))
  end
end
return 1
"""
)

# ARGV: time, then leases.
RENEW = (
    _BUCKETS
    + """
for i = 2, #ARGV do hold(KEYS[1], ARGV[i]) end
return 1
"""
)


class SharedBuckets:
    """The buckets of all processes.  Its methods raise StoreUnavailable."""

    def __init__(self, store: Scripting, clock: Callable[[], int] | None = None) -> None:
        self._store = store
        self._clock = clock

    async def reserve(self, demands: Sequence[Demand], lease: str) -> Levels:
        numbers = [
            repr(number)
            for each in demands
            for number in (each.rate, each.capacity, each.need, each.charge)
        ]
        keys = [demand.key for demand in demands]
        allowed, *levels = await self._store.run(RESERVE, keys, self._now(), lease, *numbers)
        return Levels(allowed == 1, [float(level) for level in levels])

    async def settle(self, demands: Sequence[Demand], lease: str, surplus: Sequence[float]) -> None:
        numbers = [
            repr(number)
            for demand, given in zip(demands, surplus, strict=True)
            for number in (demand.rate, given)
        ]
        keys = [demand.key for demand in demands]
        await self._store.run(SETTLE, keys, self._now(), lease, *numbers)

    async def renew(self, key: str, leases: Sequence[str]) -> None:
        await self._store.run(RENEW, [key], self._now(), *leases)

    def _now(self) -> str:
        return "" if self._clock is None else str(self._clock())
