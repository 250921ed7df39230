"""The tallies that all processes share, on Redis: each change is one script there."""

from __future__ import annotations

import secrets
from itertools import pairwise
from typing import TYPE_CHECKING

from .tallies import Learned, Tallies, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import Scripting

    from .tallies import Chosen
    from .trials import Trial

KEPT = 90 * 86_400
"""Seconds for which a scene that nobody uses is remembered."""

# A scene is a hash: `epoch`, `number`, for each temperature its tally under its name and how often it
# was chosen under `chosen:` and its name.  Numbers are kept with all digits: Lua's own way to write
# them would round them.

# KEYS: the scene, and the feedback that the answer has had.  ARGV: temperature, share, fade, epoch,
# and the milliseconds for which feedback and scene are kept.
LEARN = """
local before = redis.call("HGETALL", KEYS[1])
if (redis.call("HGET", KEYS[1], "epoch") or "") ~= ARGV[4] then return {-1, before, before} end
local share, fade = tonumber(ARGV[2]), tonumber(ARGV[3])
local good, bad, at, answers, total = 0, 0, 0, 0, 0
local kept = redis.call("HGET", KEYS[1], ARGV[1])
if kept then
  local parts = {}
  for part in string.gmatch(kept, "%S+") do parts[#parts + 1] = tonumber(part) end
  good, bad, at, answers, total = parts[1], parts[2], parts[3], parts[4], parts[5]
end
local was, since
local given = redis.call("GET", KEYS[2])
if given then
  was, since = string.match(given, "(%S+) (%S+)")
  was, since = tonumber(was), tonumber(since)
end
local is_new = 1
if given and kept and since <= at then
  is_new = 0
  local change = (share - was) * fade ^ (at - since)
  good, bad = math.max(0, good + change), math.max(0, bad - change)
  total = total + (share - was)
else
  since = redis.call("HINCRBY", KEYS[1], "number", 1)
  local left = fade ^ (since - at)
  good, bad = good * left + share, bad * left + (1 - share)
  at, answers, total = since, answers + 1, total + share
end
local tally = string.format("%.17g %.17g %.0f %.0f %.17g", good, bad, at, answers, total)
redis.call("HSET", KEYS[1], ARGV[1], tally)
redis.call("PEXPIRE", KEYS[1], ARGV[6])
redis.call("SET", KEYS[2], string.format("%.17g %.0f", share, since), "PX", ARGV[5])
return {is_new, before, redis.call("HGETALL", KEYS[1])}
"""

# KEYS: what says that these counts are in, and the scenes.  ARGV: the milliseconds for which scenes
# are kept, then place of the scene, temperature and count.
SYNC = """
if #ARGV > 1 and redis.call("SET", KEYS[1], "", "NX", "EX", 3600) then
  for i = 2, #ARGV, 3 do
    local scene = KEYS[tonumber(ARGV[i]) + 2]
    redis.call("HINCRBY", scene, "chosen:" .. ARGV[i+1], ARGV[i+2])
    redis.call("PEXPIRE", scene, ARGV[1])
  end
end
local found = {}
for i = 2, #KEYS do found[i-1] = redis.call("HGETALL", KEYS[i]) end
return found
"""

# KEYS: the scene.  ARGV: the milliseconds for which it is kept, and its new epoch.
RESET = """
redis.call("DEL", KEYS[1])
redis.call("HSET", KEYS[1], "epoch", ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[1])
return redis.call("HGETALL", KEYS[1])
"""

_KEPT = str(KEPT * 1_000)


class SharedShelf:
    """The tallies of all processes.  Its keys lie on one server of a Cluster."""

    def __init__(self, store: Scripting, ttl: float) -> None:
        self._store = store
        self._ttl = str(round(ttl * 1_000))

    async def learn(self, trial: Trial, share: float, fade: float) -> Learned:
        keys = [_scene(trial.scene), f"{{tune}}:given:{trial.id}"]
        numbers = (repr(share), repr(fade))
        arguments = (trial.arm, *numbers, trial.epoch, self._ttl, _KEPT)
        outcome, before, after = await self._store.run(LEARN, keys, *arguments)
        return Learned(outcome, _read(before), _read(after))

    async def sync(self, scenes: list[str], chosen: Chosen | None) -> list[Tallies]:
        keys = [f"{{tune}}:chosen:{chosen.id if chosen else ''}", *map(_scene, scenes)]
        arguments = [_KEPT]
        for (scene, arm), count in chosen.counts.items() if chosen else ():
            arguments += [str(scenes.index(scene)), arm, str(count)]
        return [_read(found) for found in await self._store.run(SYNC, keys, *arguments)]

    async def reset(self, scene: str) -> Tallies:
        epoch = secrets.token_hex(8)
        return _read(await self._store.run(RESET, [_scene(scene)], _KEPT, epoch))


def _scene(name: str) -> str:
    return f"{{tune}}:1:{name}"


def _read(fields: Sequence[bytes]) -> Tallies:
    """A scene out of the fields of its hash; what is no tally is none."""
    epoch, number = "", 0
    tallies: dict[str, Tally] = {}
    chosen: dict[str, int] = {}
    for key, value in list(pairwise(fields))[::2]:
        name, text = key.decode(), value.decode()
        if name == "epoch":
            epoch = text
        elif name == "number":
            number = int(text)
        elif name.startswith("chosen:"):
            chosen[name.removeprefix("chosen:")] = int(text)
        else:
            good, bad, at, answers, total = text.split(" ")
            tallies[name] = Tally(float(good), float(bad), int(at), int(answers), float(total))
    return Tallies(epoch, number, tallies, chosen)
