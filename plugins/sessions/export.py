"""What a client is told of its session, and what it may have deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .pairing import piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .messages import Message
    from .records import Session, Stored

_COUNTS = ("prompt_tokens", "completion_tokens")


def exported(name: str, session: Session) -> dict[str, Any]:
    """A session as JSON."""
    cover = session.cover
    forgotten = cover.forgotten if cover else 0
    turns = enumerate(session.turns(), forgotten + 1)
    return {
        "object": "dragoman.session",
        "id": name,
        "created": cover.created if cover else None,
        "forgotten_turns": forgotten,
        "system": session.system,
        "turns": [_turn(number, records) for number, records in turns],
    }


def _turn(number: int, records: Sequence[Stored]) -> dict[str, Any]:
    last = records[-1].record
    told: dict[str, Any] = {
        "turn": number,
        "state": _state([each.record.state for each in records]),
        "began": records[0].record.at,
        "ended": last.at,
        "model": last.facts.get("model"),
        "finish_reason": last.facts.get("finish_reason"),
        "usage": {name: _sum(each.record.facts.get(name) for each in records) for name in _COUNTS},
    }
    told["messages"] = [
        {"number": each.record.number + place, "message": message}
        for each in records
        for place, message in enumerate(each.record.messages)
        if message is not None
    ]
    return told


def _state(states: Sequence[str]) -> str:
    return next((state for state in states if state != "complete"), "complete")


def _sum(counts: Iterable[Any]) -> int | None:
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if known else None


def belonging(session: Session, number: int) -> list[int]:
    """The numbers of what is deleted with a message; empty if there is none of that number."""
    numbers: list[int] = []
    messages: list[Message | None] = []
    for each in session.records:
        numbers += range(each.record.number, each.record.number + len(each.record.messages))
        messages += each.record.messages
    if number not in numbers or messages[index := numbers.index(number)] is None:
        return []
    return [numbers[place] for place in piece(messages, index)]
