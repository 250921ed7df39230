"""A TOML file and the line of each key: tomllib reads the values, a scanner finds the lines."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self, TypeAlias

    Place: TypeAlias = tuple[str | int, ...]
    """Where a value stands, from the outermost table inwards: ("plugins", 1, "timeout")."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[^\s=.\[\]{},#\"']+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file that was read."""

    name: str
    values: dict[str, Any]
    lines: Mapping[Place, int]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.  ConfigError if it cannot be read, or is not TOML."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError([f"{path}: {(error.strerror or str(error)).lower()}"]) from None
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            byte = content[error.start]
            raise ConfigError([f"{path}:{line}: byte 0x{byte:02x} is not UTF-8"]) from None
        return cls.parse(text.replace("\r\n", "\n"), name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([_syntax_error(name, text, str(error))]) from None
        return cls(name, values, _Scanner(text).scan())

    def line(self, place: Place) -> int | None:
        """The line of a key; of the nearest table around it, if it stands nowhere itself."""
        for length in range(len(place), 0, -1):
            if (line := self.lines.get(place[:length])) is not None:
                return line
        return None


def _syntax_error(name: str, text: str, message: str) -> str:
    what, _, position = message.partition(" (at ")
    line = re.match(r"line (\d+)", position)
    number = line[1] if line else text.rstrip().count("\n") + 1
    what = what[:1].lower() + what[1:]
    if what.startswith(("invalid value", "expected newline")):
        what += "; is it a text without quotes?"
    return f"{name}:{number}: not TOML: {what}"


class _Scanner:
    """Walks over text that is known to be TOML, and notes the first line of each key."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._lengths: dict[Place, int] = {}  # of the arrays of tables, so far
        self._lines: dict[Place, int] = {}

    def scan(self) -> Mapping[Place, int]:
        table: Place = ()
        self._take(_BLANK)
        while self._at < len(self._text):
            if self._takes("[["):
                table = self._header(closing="]]")
            elif self._takes("["):
                table = self._header(closing="]")
            else:
                self._pair(table)
            self._take(_BLANK)
        return self._lines

    def _header(self, *, closing: str) -> Place:
        line = self._line
        *outer, name = self._key()
        self._takes(closing)
        place: Place = ()
        for part in outer:
            place = (*place, part)
            self._lines.setdefault(place, line)
            if place in self._lengths:  # an array of tables: its last element is meant
                place = (*place, self._lengths[place] - 1)
        place = (*place, name)
        self._lines.setdefault(place, line)
        if closing == "]]":
            index = self._lengths.get(place, 0)
            self._lengths[place] = index + 1
            place = (*place, index)
            self._lines[place] = line
        return place

    def _pair(self, table: Place) -> None:
        line = self._line
        place = table
        for part in self._key():
            place = (*place, part)
            self._lines.setdefault(place, line)
        self._takes("=")
        self._value(place)

    def _key(self) -> list[str]:
        parts = [self._key_part()]
        while self._takes("."):
            parts.append(self._key_part())
        return parts

    def _key_part(self) -> str:
        self._take(_BLANK)
        quoted = self._take(_STRING)
        if not quoted:
            return self._take(_BARE_KEY)
        text: str = tomllib.loads(f"key = {quoted}")["key"]
        return text

    def _value(self, place: Place) -> None:
        self._take(_BLANK)
        self._lines.setdefault(place, self._line)
        if self._takes("["):
            index = 0
            while not self._takes("]"):
                self._value((*place, index))
                self._takes(",")
                index += 1
        elif self._takes("{"):
            while not self._takes("}"):
                self._pair(place)
                self._takes(",")
        else:
            self._take(_STRING) or self._take(_SCALAR)

    def _takes(self, mark: str) -> bool:
        """Step over a mark, and what is blank around it, if it comes next."""
        self._take(_BLANK)
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        self._take(_BLANK)
        return True

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        self._line += match[0].count("\n")
        return match[0]
