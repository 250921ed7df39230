"""Near hits in the store: what an operator may turn into aliases, or into negatives."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from proxy.plugin import StoreUnavailable, Versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.plugin import Services

    from .matching import Known, Near
    from .options import NearHits
    from .question import Question

RECORDS = Versioned(1)
PENDING = 200
"""Near hits that may wait to be written; more are counted only."""
LOCK_SECONDS = 5.0


def key(entry: str) -> str:
    """Where the near hits of an entry are."""
    return f"near:{entry}"


def hashed(question: Question, secret: bytes) -> str:
    """What a question is known by where its text is not kept."""
    return blake2b(question.normal.encode(), digest_size=12, key=secret[:64]).hexdigest()


class NearLog:
    """Writes near hits down, beside the requests: the oldest give way."""

    def __init__(self, options: NearHits, services: Services) -> None:
        self._options = options
        self._services = services
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._writing = False
        self._seen = services.metrics.counter(
            "faq_cache_near", "Questions that an entry nearly answers", ["veto"]
        )

    def add(self, asked: Question, near: Sequence[Near]) -> None:
        """Note the nearest entry, if it is near enough."""
        if near and near[0].score >= self._options.score:
            best = near[0]
            self.note(asked, best.known, best.score, best.veto)

    def note(
        self, asked: Question, known: Known, score: float, veto: str, *, tier: str = ""
    ) -> None:
        """Note that an entry nearly answered; with a `tier`, that this one did, or would have."""
        self._seen.labels(veto or "none").inc()
        if sum(map(len, self._waiting.values())) >= PENDING:
            return
        record: dict[str, Any] = {
            "hash": hashed(asked, self._services.secret),
            "alias": known.question.text,
            "score": round(score, 3),
            "veto": veto,
            "tier": tier,
            "count": 1,
            "last": time.time_ns() // 1_000_000_000,
        }
        if self._options.questions:
            record["question"] = asked.text[:500]
        self._waiting.setdefault(known.entry.id, []).append(record)
        if not self._writing:
            self._writing = self._services.defer(self._write(), name="near hits")

    async def _write(self) -> None:
        try:
            while self._waiting:
                entry = next(iter(self._waiting))
                await self._merge(entry, self._waiting.pop(entry))
        except StoreUnavailable:
            self._waiting.clear()
        finally:
            self._writing = False

    async def _merge(self, entry: str, added: list[dict[str, Any]]) -> None:
        store, name = self._services.store, key(entry)
        async with store.lock(f"{name}:lock", ttl=LOCK_SECONDS) as ours:
            if not ours:  # another process writes; it is only a sample
                return
            kept = {each["hash"]: each for each in decode(await store.get(name))}
            for record in added:
                before = kept.pop(record["hash"], {"count": 0})
                kept[record["hash"]] = {**record, "count": before["count"] + 1}
            newest = list(kept.values())[-self._options.per_entry :]
            await store.put(name, RECORDS.encode({"near": newest}), ttl=self._options.ttl)


def decode(value: bytes | None) -> list[dict[str, Any]]:
    """The near hits of an entry, the newest last."""
    fields = RECORDS.decode(value)
    found = fields.get("near") if fields else None
    return [each for each in found if _is_record(each)] if isinstance(found, list) else []


def _is_record(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("hash"), str)
        and isinstance(value.get("count"), int)
    )
