"""Server-sent events, cut out of a byte stream and kept as they came.  Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re

# A line ends with LF, CRLF or CR; an empty line ends an event.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\n)")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_BOM = b"\xef\xbb\xbf"

MAX_HELD = 16 << 20
"""Bytes of an unfinished event that are kept before they are released as they are."""


class Splitter:
    """Cuts a stream into runs of whole events.

    Joined, what comes out is what went in.  Only an unfinished event is held back; a finished
    comment line in front of it is not, because comments keep connections alive.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that are whole by now: none, or some events and comments."""
        if not self._held and data.endswith(b"\n\n"):
            return data
        if self._held and not self._may_end_with(data):
            self._held += data
            return b""
        data = bytes(self._held) + data
        # A CR at the very end may be half of a CRLF, but not where lines end with CR alone.
        known = len(data) - (data.endswith(b"\r") and not data.endswith(b"\r\r"))
        end = self._last_event_end(data, known)
        while data.startswith(b":", end) and (line := _LINE_END.search(data, end, known)):
            end = line.end()
        if len(data) - end > MAX_HELD:
            end = len(data)
        self._held = bytearray(data[end:])
        return data[:end]

    def _may_end_with(self, data: bytes) -> bool:
        """Can there be an end in what is new?  A huge event is not searched for each piece of it."""
        edge = bytes(self._held[-3:]) + data
        return (
            b"\n\n" in edge
            or b"\r" in edge
            or self._held.startswith(b":")
            or len(self._held) + len(data) > MAX_HELD
        )

    def rest(self) -> bytes:
        """What is left when the stream has ended: an event without its empty line."""
        rest, self._held = bytes(self._held), bytearray()
        return rest

    @staticmethod
    def _last_event_end(data: bytes, known: int) -> int:
        if b"\r" not in data:
            return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        end = 0
        for match in _EVENT_END.finditer(data, 0, known):
            end = match.end()
        return end


def events(whole: bytes) -> list[bytes]:
    """Cut a run of whole events into single ones, each with its empty line, and a rest if any."""
    if b"\r" not in whole:
        parts = whole.split(b"\n\n")
        last = parts.pop()
        cut = [part + b"\n\n" for part in parts]
        return [*cut, last] if last else cut
    cut, start = [], 0
    for match in _EVENT_END.finditer(whole):
        cut.append(whole[start : match.end()])
        start = match.end()
    return [*cut, whole[start:]] if start < len(whole) else cut


def data(event: bytes) -> bytes | None:
    """The payload of an event: its `data` lines joined by LF; None if it has none."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    lines = [
        line[6:] if line[5:6] == b" " else line[5:]
        for line in _LINE_END.split(event.removeprefix(_BOM))
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None


def with_data(event: bytes, payload: bytes) -> bytes:
    """The event with another payload of one line; its `event`, `id` and `retry` lines stay."""
    lines = data(event)
    return event.replace(lines, payload) if lines and event.count(lines) == 1 else encode(payload)


def encode(payload: bytes) -> bytes:
    """One event with one line of data."""
    return b"data: " + payload + b"\n\n"
