"""Sentences by which a user takes back what they have just said.

A proxy must not delete a message because of a sentence in another one: both stay where they are, or
their trace does.  A retraction tells only what need not be carried on.  An order to change a text
("delete the last paragraph") takes nothing back; in doubt nothing is taken back.
"""

from __future__ import annotations

import re
from itertools import islice

from .sentences import rules, spans, typed

_SCANNED = 2_000
"""Characters: a retraction stands at the beginning of a message, and it is typed."""
_SENTENCES = 8
_LONGEST = 200

_RULES = rules("retraction")


def _compiled() -> re.Pattern[str]:
    choice = "|".join(_RULES["retractions"])
    for name, fragment in _RULES["fragments"].items():
        choice = choice.replace(f"<{name}>", fragment)
    return re.compile(f"{_RULES['fragments']['lead']}(?:{choice})")


_TAKES_BACK = _compiled()


def retracts(text: str) -> str | None:
    """The sentence that takes back what the user said just before, if there is one."""
    shown = typed(text[:_SCANNED])
    for start, end in islice(spans(shown), _SENTENCES):
        sentence = shown[start:end]
        if len(sentence) <= _LONGEST and _TAKES_BACK.match(_plain(sentence)):
            return None if sentence.endswith(("?", "？")) else sentence
    return None


def _plain(sentence: str) -> str:
    return sentence.replace("\u2019", "'").lower()
