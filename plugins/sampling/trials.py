"""Which temperature made which answer: kept for as long as feedback may come."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from proxy.plugin import StoreUnavailable, Versioned

if TYPE_CHECKING:
    from proxy.plugin import Services

UNWRITTEN = 10_000
"""Trials that wait for Redis; feedback on more is not taken."""

PAUSES = (0.0, 0.1, 0.4)
"""Seconds before each look for a trial: it is written when its answer is out, by any process."""

_FORM = Versioned(1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One answer, as far as feedback on it teaches something."""

    scene: str
    temperature: float
    epoch: str
    """Of the scene, when the temperature was chosen."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Ours: upstreams may use theirs twice."""

    @property
    def arm(self) -> str:
        """The name of the temperature."""
        return str(self.temperature)


class Trials:
    """Trials by the caller and the id of the answer; none is found for another caller."""

    def __init__(self, services: Services, ttl: float) -> None:
        self._store = services.store
        self._secret = services.secret
        self._ttl = ttl
        self._unwritten: dict[str, Trial] = {}

    async def write(self, caller: str, response_id: str, trial: Trial) -> None:
        """Keep it; while Redis is gone, here."""
        key = self._key(caller, response_id)
        try:
            await self._put(key, trial)
        except StoreUnavailable:
            if len(self._unwritten) < UNWRITTEN:
                self._unwritten[key] = trial

    async def flush(self) -> None:
        """Write what waits.  StoreUnavailable."""
        for key, trial in list(self._unwritten.items()):
            await self._put(key, trial)
            self._unwritten.pop(key, None)

    async def find(self, caller: str, response_id: str) -> Trial | None:
        """The trial of an answer that this caller had.  StoreUnavailable."""
        key = self._key(caller, response_id)
        for pause in PAUSES:
            if pause:
                await asyncio.sleep(pause)
            if (trial := self._unwritten.get(key)) is not None:
                return trial
            if (fields := _FORM.decode(await self._store.get(key))) is not None:
                return Trial(**fields)
        return None

    async def _put(self, key: str, trial: Trial) -> None:
        fields = {
            "scene": trial.scene,
            "temperature": trial.temperature,
            "epoch": trial.epoch,
            "id": trial.id,
        }
        await self._store.put(key, _FORM.encode(fields), ttl=self._ttl)

    def _key(self, caller: str, response_id: str) -> str:
        """Not to be turned back, and not to be had without knowing who asked."""
        text = f"{len(caller)}:{caller}{response_id}".encode("utf-8", "surrogatepass")
        return "trial:" + blake2b(text, key=self._secret, digest_size=16).hexdigest()
