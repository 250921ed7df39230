"""Messages that are a command to the proxy, and nothing else."""

from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from .messages import role_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .messages import Message


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be done, and what to say then: in the language of the command."""

    deletes: Literal["last", "all"]
    done: str
    nothing: str
    failed: str


class Commands:
    """The commands there are, by their words."""

    def __init__(self) -> None:
        text = (files(__package__) / "data" / "commands.toml").read_text(encoding="utf-8")
        self._known: Mapping[str, Command] = {
            normal(phrase): Command(deletes, said[deletes], said["nothing"], said["failed"])
            for said in tomllib.loads(text).values()
            for deletes in ("last", "all")
            for phrase in said[f"delete_{deletes}"]
        }

    def find(self, fresh: Sequence[Message]) -> Command | None:
        """The command that a client has sent: one message of a user, which is nothing else."""
        if len(fresh) != 1 or role_of(fresh[0]) != "user":
            return None
        text = text_of(fresh[0])
        return None if text is None or len(text) > 100 else self._known.get(normal(text))


def normal(text: str) -> str:
    """Words as they are compared: no capitals, no wide forms, no stop at the end."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return " ".join(folded.split()).rstrip(".!。~ ")
