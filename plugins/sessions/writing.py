"""From what an exchange has added to a session, to the edit of its text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from .log import Edit
from .messages import SYSTEM, role_of
from .records import Cover, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import Message
    from .options import SessionsOptions
    from .reconcile import Plan
    from .records import Said, Session, State


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What came of a request."""

    id: str
    at: int
    answer: Message
    state: State
    facts: Mapping[str, Any]


class _Line(NamedTuple):
    record: Record
    size: int
    line: bytes = b""
    """Empty if it is in the text already."""
    start: int = 0


def written(
    session: Session, said: Sequence[Said], plan: Plan, new: Exchanged, options: SessionsOptions
) -> tuple[Edit, State]:
    """The edit, and what became of the turn: `too_long` if no session can hold it.

    `session` is what was read, without what was taken back, and `said` what the model sees of it.
    """
    records, number = list(session.records), 1
    carried: list[Message | None] = []
    if plan.keep < len(said):
        cut = said[plan.keep]
        carried = list(records[cut.record].record.messages[: cut.place])
        number = records[cut.record].record.number
        del records[cut.record :]
    elif records:
        last = records[-1].record
        number = last.number + len(last.messages)
    stop = records[-1].stop if records else session.cover_stop
    made = _records([*carried, *plan.fresh, new.answer], number, new)
    old = [_Line(each.record, each.stop - each.start, start=each.start) for each in records]
    lines = [*old, *(_Line(record, len(line), line) for record, line in made)]
    cover = session.cover or Cover(new.at)
    cover = replace(cover, system=plan.system)
    state = new.state
    room = options.max_bytes - len(cover.line())
    if _newest(lines) > room:
        state = "too_long"
        stub = Record(new.id, number, new.at, (), state, new.facts)
        lines = [*old, _Line(stub, len(stub.line()), stub.line())]
        if room < 0:  # for the system messages alone
            cover = replace(cover, system=session.system)
            room = options.max_bytes - len(cover.line())
    dropped, turns = _superfluous(lines, room, options.max_turns)
    lines = lines[dropped:]
    cover = replace(cover, forgotten=cover.forgotten + turns)
    tail = b"".join(each.line for each in lines)
    if cover == session.cover:
        return Edit(session.length, b"", 0, stop, tail), state
    kept = [each.start for each in lines if not each.line]
    start = session.cover_stop if not dropped else kept[0] if kept else stop
    return Edit(session.length, cover.line(), start, stop, tail), state


def _records(
    messages: Sequence[Message | None], number: int, new: Exchanged
) -> list[tuple[Record, bytes]]:
    """A record for each turn: a chat that came whole has many."""
    made = []
    pieces = _turns(messages)
    for piece in pieces:
        record = Record(new.id, number, new.at, piece)
        if piece is pieces[-1]:
            record = replace(record, state=new.state, facts=new.facts)
        made.append((record, record.line()))
        number += len(piece)
    return made


def _turns(messages: Sequence[Message | None]) -> list[list[Message | None]]:
    turns: list[list[Message | None]] = [[]]
    before = "user"
    for message in messages:
        role = "" if message is None else role_of(message)
        if role == "user" and before != "user":
            turns.append([])
        if role and role not in SYSTEM:
            before = role
        turns[-1].append(message)
    return turns


def _newest(lines: Sequence[_Line]) -> int:
    """Bytes of the newest turn."""
    size = 0
    for each in reversed(lines):
        size += each.size
        if each.record.begins_turn:
            break
    return size


def _superfluous(lines: Sequence[_Line], room: int, most: int) -> tuple[int, int]:
    """How many of the oldest records have to go, and how many turns they are: whole ones."""
    begins = [index for index, each in enumerate(lines) if each.record.begins_turn or not index]
    size = sum(each.size for each in lines)
    dropped = turns = 0
    while turns < len(begins) - 1 and (len(begins) - turns > most or size > room):
        end = begins[turns + 1]
        size -= sum(each.size for each in lines[dropped:end])
        dropped, turns = end, turns + 1
    return dropped, turns


def deleted(session: Session, text: bytes, numbers: Sequence[int]) -> Edit:
    """The edit that takes these messages out; records without any go."""
    touched = [
        stored
        for stored in session.records
        if any(0 <= n - stored.record.number < len(stored.record.messages) for n in numbers)
    ]
    start, stop = touched[0].start, touched[-1].stop
    tail, position = b"", start
    for stored in touched:
        record = stored.record
        left = [
            None if record.number + place in numbers else message
            for place, message in enumerate(record.messages)
        ]
        tail += text[position : stored.start]
        if any(message is not None for message in left):
            tail += replace(record, messages=left).line()
        position = stored.stop
    return Edit(session.length, b"", 0, start, tail + text[stop:])
