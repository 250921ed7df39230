"""What a client has sent, and what the proxy remembers: which messages the model sees.

A client sends what is new, or all there is.  It has sent a whole chat if an answer of the model is
in it, for who keeps answers keeps the rest, too; or if it is more than one message and begins as
the session did.  Else what it has sent is new.  A chat that begins with the last answer of the
session goes on from there: so do clients that send a tool's results together with its call.

Of a whole chat the client's version holds, from the first difference on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .messages import SYSTEM, meaning, role_of
from .pairing import paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .messages import Message

Mode: TypeAlias = Literal["auto", "append", "replace"]
Kind: TypeAlias = Literal["new", "appended", "resent", "edited"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a session and of a request."""

    kind: Kind
    keep: int
    """How many messages of the history stay."""
    fresh: Sequence[Message]
    """What follows them."""
    system: Sequence[Message]
    messages: Sequence[Message]
    """What goes upstream; the very list that came, if nothing is to be added."""


def reconcile(
    history: Sequence[Message],
    system: Sequence[Message],
    incoming: Sequence[Message],
    mode: Mode = "auto",
) -> Plan:
    """What to do with the messages of a request.  Unpaired if they bring a result without a call.

    `history` and `system` are what the session holds; system messages in front are the newest that
    the client has sent.
    """
    head = 0
    while head < len(incoming) and role_of(incoming[head]) in SYSTEM:
        head += 1
    given, body = incoming[:head], incoming[head:]
    repeated = _repeats_the_end(history, body)
    if mode == "replace" or (mode == "auto" and not repeated and _is_whole(history, body)):
        same = _common(history, body)
        kind: Kind = "edited" if same < len(history) else "resent" if history else "new"
        return Plan(kind, same, body[same:], given, incoming)
    fresh, system = body[repeated:], given or system
    messages = paired(history, fresh)
    if not history and len(messages) == len(fresh) and len(system) == len(given):
        return Plan("new", 0, fresh, system, incoming)
    kind = "appended" if history else "new"
    return Plan(kind, len(history), fresh, system, [*system, *messages])


def _is_whole(history: Sequence[Message], body: Sequence[Message]) -> bool:
    if any(role_of(message) == "assistant" for message in body):
        return True
    return len(body) > 1 and _common(history[:1], body) == 1


def _repeats_the_end(history: Sequence[Message], body: Sequence[Message]) -> bool:
    if not history or not body or role_of(body[0]) != "assistant":
        return False
    return meaning(body[0]) == meaning(history[-1])


def _common(history: Sequence[Message], body: Sequence[Message]) -> int:
    """How many messages they have in common from the first one on."""
    for index, (kept, came) in enumerate(zip(history, body, strict=False)):
        if meaning(kept) != meaning(came):
            return index
    return min(len(history), len(body))
