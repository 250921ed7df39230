"""A chat as compression sees it: a head that stays, and exchanges that end where a cut may be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from .messages import HEAD_ROLES, calls_of, newest_user, role_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .messages import Message


@dataclass(frozen=True, slots=True)
class History:
    """The messages of a request, with what each costs, divided into exchanges.

    An exchange is what a user says and all that answers it, tool calls and their results included.
    Exchanges are numbered from 1; what an assistant says before any user is exchange 0.
    """

    messages: Sequence[Message]
    costs: Sequence[int]
    """Tokens of each message, of the same length."""
    head: int
    """How many system and developer messages stand in front of everything else."""
    sums: Sequence[int]
    """Tokens of the messages before each one; one longer than `messages`."""
    turns: Sequence[int]
    """The exchange that each message belongs to."""
    boundaries: Sequence[int]
    """Where an exchange begins and no tool call waits for its result: the places for a cut."""
    asked: Sequence[int]
    """The messages that a request may have ended with: those of users and of tools."""
    newest: int | None
    """The newest user message."""
    overhead: int = 0
    """Tokens beside the messages: tools, and the frame of the whole."""

    @property
    def head_tokens(self) -> int:
        """Tokens of all that no cut can touch."""
        return self.sums[self.head] + self.overhead

    def cost(self, start: int, end: int) -> int:
        """Tokens of messages[start:end]."""
        return self.sums[end] - self.sums[start]


def read(messages: Sequence[Message], costs: Sequence[int], overhead: int = 0) -> History:
    """Divide a chat into its exchanges."""
    head = 0
    while head < len(messages) and role_of(messages[head]) in HEAD_ROLES:
        head += 1
    turns, boundaries = _divide(messages, head)
    return History(
        messages,
        costs,
        head,
        list(accumulate(costs, initial=0)),
        turns,
        boundaries,
        [i for i in range(head, len(messages)) if role_of(messages[i]) in ("user", "tool")],
        newest_user(messages),
        overhead,
    )


def _divide(messages: Sequence[Message], head: int) -> tuple[list[int], list[int]]:
    turns, boundaries = [0] * head, []
    turn, before = 0, ""
    waiting: dict[str, int] = {}  # tool calls without a result, by their id, which may come twice
    for index in range(head, len(messages)):
        message = messages[index]
        role = role_of(message)
        if role == "user" and before != "user":
            turn += 1
            if not waiting and index > head:
                boundaries.append(index)
        elif role == "assistant":
            for call, *_ in calls_of(message):
                waiting[call] = waiting.get(call, 0) + 1
        elif role == "tool":
            call = str(message.get("tool_call_id"))
            if (left := waiting.pop(call, 0)) > 1:
                waiting[call] = left - 1
        turns.append(turn)
        if role not in HEAD_ROLES:
            before = role
    return turns, boundaries
