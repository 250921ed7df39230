"""The outcome of counting, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Exactness = Literal["exact", "near", "estimated"]
"""exact: as recorded usage has it; near: within about 3; estimated: the best that can be said."""


class Doubt(IntEnum):
    """How little is known; the greatest doubt in a request is that of its count."""

    NONE = 0
    LITTLE = 1
    GREAT = 2

    @property
    def exactness(self) -> Exactness:
        return _EXACTNESS[self]


_EXACTNESS: tuple[Exactness, ...] = ("exact", "near", "estimated")


@dataclass(frozen=True, slots=True)
class Count:
    """The prompt tokens of a request: `tokens == overhead + sum(messages)`.

    The costs of messages add up, so that whoever leaves some out can subtract theirs.
    """

    tokens: int
    exactness: Exactness
    messages: tuple[int, ...]
    overhead: int  # the answer's header, tools, the answer's format
    model: str
    text_tokens: int  # the contents alone, without any frame: what calibration goes by
