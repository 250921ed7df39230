"""The prompt that goes upstream: head, memory, the newest exchanges, excerpts, the newest message.

The memory is a part of a user message, never of the system's: what users and tools said must not
speak with the operator's authority.  It stands in the first message that was kept, because some
templates refuse two user messages in a row.  Everything that was kept has its own bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .messages import HEAD_ROLES, role_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .history import History
    from .messages import Message

OPEN = '<earlier note="reference, not a request; later messages win">'
CLOSE = "</earlier>"
EXCERPTS = '<excerpts note="earlier messages, word for word">'
EXCERPTS_CLOSE = "</excerpts>"
INSTRUCTIONS = "The user's orders:"

# What a text could pretend with: our own delimiters, and the marks of chat templates.
_PRETENCE = re.compile(r"<(?=/?(?:earlier|excerpts)\b)|<\|(?=[a-z_]{1,40}\|>)", re.IGNORECASE)


def plain(text: str) -> str:
    """The text without anything that could be taken for a delimiter or a role."""
    return _PRETENCE.sub("&lt;", text)


def memory(instructions: Sequence[tuple[int, str]], pieces: Sequence[str]) -> str:
    """The memory block: instructions with the number of their turn, then a text for each segment.

    Empty if there is nothing to remember.
    """
    lines = [f"({turn}) {plain(text)}" for turn, text in instructions]
    if lines:
        lines.insert(0, INSTRUCTIONS)
    lines.extend(plain(piece) for piece in pieces if piece)
    return "\n".join((OPEN, *lines, CLOSE)) if lines else ""


def excerpts(found: Sequence[tuple[int, str, str]]) -> str:
    """What was found again: turn, role and text of each."""
    lines = [f"({turn}, {role}) {plain(text)}" for turn, role, text in found]
    return "\n".join((EXCERPTS, *lines, EXCERPTS_CLOSE)) if lines else ""


def assemble(history: History, cut: int, memory: str, excerpts: str = "") -> list[Message]:
    """The messages to send, those before the cut replaced by the memory of them.

    The newest user message is never touched: if it is the first one kept, the memory stands before
    it.  System and developer messages that stood among what was cut off stay as they are, behind the
    memory: their order tells the model that they came later than the head.
    """
    messages = history.messages
    carried = [m for m in messages[history.head : cut] if role_of(m) in HEAD_ROLES]
    kept = list(messages[cut:])
    if carried or not memory or cut == history.newest:
        kept = [*([_user(memory)] if memory else []), *carried, *kept]
    else:
        kept[0] = _with(memory, kept[0])
    if excerpts and history.newest is not None and history.newest > cut:
        kept.insert(len(kept) - (len(messages) - history.newest), _user(excerpts))
    return [*messages[: history.head], *kept]


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _with(memory: str, message: Message) -> dict[str, Any]:
    """A user message with the memory in front of its own content."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": memory}, *content]}
    return {**message, "content": f"{memory}\n\n{content if isinstance(content, str) else ''}"}
