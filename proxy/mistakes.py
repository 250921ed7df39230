"""The mistakes of a configuration, each one line: where, what, and what was perhaps meant."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from .errors import ConfigError
from .fields import holds_secret, keys, keys_at, types_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from .document import Document, Place

_LONGEST_VALUE = 80
_SHORTEST_SECRET = 6
"""Shorter texts are looked for nowhere: "1" is in many messages."""

# Where people leave passwords and tokens: in URLs, and as keys in the wrong place.
_SECRET = re.compile(r"(?<=://)[^/@\s]*(?=@)|(?<=\?)\S+=\S+|\b(?:sk|dgm)-\S+")

# What pydantic says to programmers, and what we say to those who write TOML.
_WORDING = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^(Value error|Assertion failed), ", ""),
        (r"^Value should have at least (\d+) items .*$", r"should have at least \1 characters"),
        (r"^(Input|String|List|Tuple|Dictionary|Set) should", "should"),
        (r"(, unable to .*|, got a number .*| after validation.*)$", ""),
        (r"^Field required$", "is required"),
        (r"^Input tag (.*) found using '(.*)' does not .* tags: (.*)", r"\2 should be \3, not \1"),
        (r"^Unable to extract tag using discriminator '(.*)'", r"\1 is required"),
        (r"a valid (tuple|list|set)", "an array"),
        (r"a valid dictionary( or instance of \w+)?", "a table"),
        (r"a valid boolean", "true or false"),
        (r"a valid integer", "a whole number"),
        (r"a valid string", "a text"),
        (r"less than or equal to", "at most"),
        (r"greater than or equal to", "at least"),
    )
]


class Mistake(NamedTuple):
    """One thing that is wrong; mistakes sort in the order of the file."""

    line: float
    place: Place
    text: str


@dataclass(slots=True)
class Mistakes:
    """Collects everything that is wrong, so that all of it can be said at once."""

    document: Document | None = None
    overrides: dict[Place, str] = field(default_factory=dict)
    """What stands above the file: the variable or the flag that set a place."""
    secrets: set[str] = field(default_factory=set)
    """Texts that no message may hold: what `env:` stood for."""
    found: list[Mistake] = field(default_factory=list)

    def add(self, place: Place, message: str) -> None:
        """Note what is wrong with the value at a place; its key is put in front."""
        key = _key(place, self._overridden(place))
        self.add_text(place, f"{key}: {message}" if key else message)

    def add_text(self, place: Place, message: str) -> None:
        """Note what is wrong at a place; () if it is no place of the configuration."""
        text = f"{self.cite(place)}{' '.join(message.split())}"
        self.found.append(Mistake(self._line(place) or math.inf, place, text))

    def add_invalid(
        self,
        error: ValidationError,
        model: type[BaseModel],
        values: Any,
        *,
        within: Place = (),
        also: Iterable[str] = (),
    ) -> None:
        """Note what pydantic found wrong with `values`, which stand at the place `within`.

        `also` names keys that are known although the model does not have them.  A place about
        which something was noted before gets nothing more.
        """
        noted = {mistake.place for mistake in self.found}
        reasons: dict[Place, list[str]] = {}
        shown: dict[Place, str] = {}
        found = [(_place(one, values), one) for one in error.errors(include_url=False)]
        for inner, one in found:
            place = (*within, *inner)
            if place in noted or _follows(one, inner, found):
                continue
            if one["type"] == "extra_forbidden":
                text = f"unknown key {inner[-1]!r}{_meant(model, inner, within, also)}"
                self.add_text(place, text)
                continue
            if holds_secret(model, inner):
                self.secrets.add(str(one["input"]))
            elif one["type"] != "missing":
                shown[place] = self._shown(one["input"])
            reasons.setdefault(place, []).append(self._reason(one, place))
        for place, texts in reasons.items():
            self.add(place, " or ".join(dict.fromkeys(texts)) + shown.get(place, ""))

    def concern(self, *places: Place) -> bool:
        """Is anything wrong at, inside or around one of these places?"""
        return any(
            mistake.place[: len(place)] == place[: len(mistake.place)]
            for place in places
            for mistake in self.found
            if mistake.place
        )

    def check(self) -> None:
        """Raise ConfigError, with every mistake in the order of the file, if there are any."""
        if self.found:
            ordered = sorted(self.found, key=lambda mistake: mistake.line)
            raise ConfigError([mistake.text for mistake in ordered])

    def cite(self, place: Place) -> str:
        """Who says what stands at a place: "config.toml:9: ", or a variable, or a flag."""
        if overridden := self._overridden(place):
            return f"{self.overrides[overridden]}: "
        if self.document is None or not place:
            return ""
        line = self._line(place)
        return f"{self.document.name}:{line}: " if line else f"{self.document.name}: "

    def _line(self, place: Place) -> int | None:
        if self.document is None or self._overridden(place):
            return None
        return self.document.line(place)

    def _overridden(self, place: Place) -> Place:
        """The place by whose variable or flag this one was set; () if it was not."""
        ends = range(len(place), 0, -1)
        return next((place[:end] for end in ends if place[:end] in self.overrides), ())

    def _reason(self, error: ErrorDetails, place: Place) -> str:
        message = error["msg"]
        for pattern, words in _WORDING:
            message = pattern.sub(words, message)
        if "an array" in message and isinstance(error["input"], dict):
            message += f": write [[{place[-1]}]], not [{place[-1]}]"
        for secret in self.secrets:
            if len(secret) >= _SHORTEST_SECRET:
                message = message.replace(secret, "...")
        return message if message[:2].isupper() else message[:1].lower() + message[1:]

    def _shown(self, value: Any) -> str:
        """A value, as the end of a message; nothing where it is long or may be secret."""
        if isinstance(value, bool):
            return f", not {str(value).lower()}"
        if isinstance(value, (int, float)):
            return f", not {value}"
        if not isinstance(value, str) or value in self.secrets:
            return ""
        text = _SECRET.sub("...", value)
        return f", not {text!r}" if len(text) <= _LONGEST_VALUE else ""


def suggestion(word: object, known: Iterable[str]) -> str:
    """What was perhaps meant: the nearest known word, or all of them."""
    words = sorted(known)
    if near := get_close_matches(str(word), words, n=1):
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(words)}" if words else ""


def _meant(model: type[BaseModel], place: Place, within: Place, also: Iterable[str]) -> str:
    """What an unknown key was perhaps meant to be: one of another table, or almost one of this."""
    *table, key = place
    for section, _ in keys(model):
        kinds = types_at(model, (section,))
        if any(issubclass(kind, BaseModel) for kind in kinds) and key in keys_at(model, (section,)):
            name = ".".join(str(part) for part in (*within[:1], section))
            return f"; it belongs in {f'[[{name}]]' if tuple in kinds else f'[{name}]'}"
    return suggestion(key, keys_at(model, tuple(table)).union(() if table else also))


def _place(error: ErrorDetails, values: Any) -> Place:
    """Pydantic's location without the names of union members, which are not in the file."""
    place: list[str | int] = []
    for part in error["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        place.append(part)
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _follows(
    error: ErrorDetails, place: Place, all_of_them: Iterable[tuple[Place, ErrorDetails]]
) -> bool:
    """Is it said only since items of an array are wrong?  Pydantic counts those that are right."""
    return error["type"] == "too_short" and any(
        len(other) > len(place) and other[: len(place)] == place for other, _ in all_of_them
    )


def _key(place: Place, above: Place) -> str:
    """A place as seen from the table, variable or flag that holds it: `match.models[0]`."""
    start = len(above) or (2 if len(place) > 1 and isinstance(place[1], int) else 0)
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place[start:])
    return text.removeprefix(".")
