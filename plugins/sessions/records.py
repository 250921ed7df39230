"""A session as it is stored: a line of what holds for all of it, and a line for each exchange.

A line is a JSON object with its version.  What another version wrote, or is damaged, is passed over.
Messages are numbered from 1 in the order in which they came; what is forgotten leaves a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from proxy.plugin import Versioned

from .messages import RESULTS, calls_of, role_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import Message

State: TypeAlias = Literal["complete", "incomplete", "too_long"]

_LINE = Versioned(1)


@dataclass(frozen=True, slots=True)
class Cover:
    """What holds for a whole session."""

    created: int
    """Seconds since 1970."""
    system: Sequence[Message] = ()
    forgotten: int = 0
    """Turns that were the oldest, and one too many."""

    def line(self) -> bytes:
        fields = {"created": self.created, "system": self.system, "forgotten": self.forgotten}
        return _LINE.encode({name: value for name, value in fields.items() if value}) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Cover | None:
        fields = _LINE.decode(line)
        if fields is None or not isinstance(fields.get("created"), int):
            return None
        return cls(fields["created"], fields.get("system", ()), fields.get("forgotten", 0))


@dataclass(frozen=True, slots=True)
class Record:
    """What one exchange has added to a session; of a chat that came whole, one of its turns."""

    id: str
    number: int
    """The number of its first message."""
    at: int
    """Seconds since 1970."""
    messages: Sequence[Message | None]
    """None where a message was deleted."""
    state: State = "complete"
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`model`, `finish_reason`, `prompt_tokens`, `completion_tokens`: those that are known."""

    @property
    def begins_turn(self) -> bool:
        """False if it goes on with the tool calls of the record before."""
        first = next((message for message in self.messages if message is not None), None)
        return first is None or role_of(first) not in RESULTS

    def line(self) -> bytes:
        fields: dict[str, Any] = {"id": self.id, "n": self.number, "at": self.at}
        if self.state != "complete":
            fields["state"] = self.state
        return _LINE.encode({**fields, "messages": self.messages, **self.facts}) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Record | None:
        fields = _LINE.decode(line)
        if fields is None:
            return None
        try:
            known = {name: fields.pop(name) for name in ("id", "at", "messages")}
            return cls(
                number=fields.pop("n"), state=fields.pop("state", "complete"), facts=fields, **known
            )
        except KeyError:
            return None

    def said(self, *, incomplete: bool) -> list[tuple[int, Message]]:
        """What the model sees of it, with the place of each message in the record."""
        if self.state == "complete":
            return [(i, message) for i, message in enumerate(self.messages) if message is not None]
        if self.state != "incomplete" or not incomplete:
            return []
        whole = [(i, _without_calls(message)) for i, message in enumerate(self.messages)]
        return [(i, message) for i, message in whole if message is not None]


def _without_calls(message: Message | None) -> Message | None:
    """A message that broke off: its calls may lack their ends.  None if nothing is left."""
    if message is None or not calls_of(message):
        return message
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return rest if rest.get("content") else None


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, and where its line is in the text."""

    record: Record
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Said:
    """A message that the model sees, and where it is stored."""

    message: Message
    record: int
    place: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session that was read."""

    length: int
    """Of its text, in bytes."""
    cover: Cover | None
    cover_stop: int
    records: Sequence[Stored]

    @classmethod
    def read(cls, text: bytes) -> Session:
        """What the text says; an empty session if its first line cannot be read."""
        lines = text.splitlines(keepends=True)
        cover = Cover.of(lines[0]) if lines else None
        if cover is None:
            return cls(len(text), None, 0, ())
        records, start = [], len(lines[0])
        for line in lines[1:]:
            record = Record.of(line)
            if record is not None:
                records.append(Stored(record, start, start + len(line)))
            start += len(line)
        return cls(len(text), cover, len(lines[0]), records)

    @property
    def system(self) -> Sequence[Message]:
        return self.cover.system if self.cover else ()

    def turns(self) -> list[Sequence[Stored]]:
        """The records of each turn."""
        turns: list[list[Stored]] = []
        for stored in self.records:
            if stored.record.begins_turn or not turns:
                turns.append([])
            turns[-1].append(stored)
        return list(turns)

    def without_last_turn(self) -> Session:
        turns = self.turns()
        count = len(self.records) - (len(turns[-1]) if turns else 0)
        return Session(self.length, self.cover, self.cover_stop, self.records[:count])

    def said(self, *, incomplete: bool) -> list[Said]:
        """What the model sees of it."""
        return [
            Said(message, index, place)
            for index, stored in enumerate(self.records)
            for place, message in stored.record.said(incomplete=incomplete)
        ]
