"""Changes as they look on a page: of fields, of messages, of the words of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from proxy.terminal import DIM, GREEN, RED

from .diff import ABSENT, Added, Changed, Kept, Removed
from .layout import Ink, elided, folded
from .words import role, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .diff import Change, Field, Message, Span
    from .layout import Page

MARGIN = "   "
LABEL = 10
"""Columns of what stands before a text: the role that a message has, for one."""

CONTEXT = 40
"""Characters that are shown of kept text on either side of a change."""

_VALUE = 60
_STYLES = {"kept": DIM, "removed": RED, "added": GREEN}
_SIGNS = {"kept": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}


# ---- fields


def draw_field(page: Page, field: Field, margin: str = MARGIN) -> None:
    """One line of a field, with its values where they are short."""
    text, style = _field(field)
    page.add(text, style, margin=margin)


def _field(field: Field) -> tuple[str, str]:
    name, before, after = field
    if before is ABSENT:
        return f"+ {name}: {_value(after)}", GREEN
    if after is ABSENT:
        return f"- {name}: {_value(before)}", RED
    return f"  {name}: {_value(before)} -> {_value(after)}", ""


def _value(value: Any) -> str:
    """The value as JSON, or how much there is of it."""
    text = msgspec.json.encode(value, enc_hook=repr).decode()
    if len(text) <= _VALUE:
        return text
    if isinstance(value, str):
        return f"a text of {len(value):,} characters"
    if isinstance(value, dict):
        return f"an object of {len(text):,} characters"
    return f"a list of {len(value):,} in {len(text):,} characters"


# ---- messages


def draw_messages(page: Page, changes: Sequence[Change]) -> None:
    """What became of the messages; what stayed is shown as far as it says where one is."""
    for change in _abridged(changes):
        match change:
            case Kept(messages):
                _kept(page, messages)
            case Removed(message):
                _message(page, "-", message, elided(folded(spoken(message)), 80), RED)
            case Added(message):
                _message(page, "+", message, elided(spoken(message), 1_000, 200), GREEN)
            case Changed():
                _changed(page, change)
            case int():
                page.add(f"{MARGIN}- … {change} more removed", RED)


def _abridged(changes: Sequence[Change]) -> Iterator[Change | int]:
    """The changes, with a number in place of the middle of a long run of removed messages."""
    run: list[Change] = []
    for change in (*changes, None):
        if isinstance(change, Removed):
            run.append(change)
            continue
        if len(run) > 6:
            yield from (*run[:3], len(run) - 5, *run[-2:])
        else:
            yield from run
        run = []
        if change is not None:
            yield change


def _kept(page: Page, messages: Sequence[Message]) -> None:
    shown = list(messages) if len(messages) <= 3 else [messages[0], messages[-1]]
    for number, message in enumerate(shown):
        if number and len(shown) < len(messages):
            page.add(f"{MARGIN}  … {len(messages) - 2} more kept", DIM)
        _message(page, " ", message, elided(folded(spoken(message)), 60), DIM)


def _changed(page: Page, change: Changed) -> None:
    spans = change.spans
    last = len(spans) - 1
    margin = _margin("~", change.after)
    inks = [
        _ink(page, span, front=at > 0 or at == last, back=at < last)
        for at, span in enumerate(spans)
    ]
    page.add(inks, margin=margin)
    for field in change.fields:
        draw_field(page, field, " " * len(margin))


def _ink(page: Page, span: Span, *, front: bool, back: bool) -> Ink:
    """A stretch of a changed message; of kept text, `front` and `back` if there is a change."""
    if span.kind == "kept":
        text = elided(span.text, front * CONTEXT, back * CONTEXT)
    else:
        text = elided(span.text, 600, 200)
    opening, closing = ("", "") if page.colour else _SIGNS[span.kind]
    return Ink(f"{opening}{text}{closing}", _STYLES[span.kind])


def _message(page: Page, sign: str, message: Message, text: str, style: str) -> None:
    page.add(text or "(no text)", style, margin=_margin(sign, message))


def _margin(sign: str, message: Message) -> str:
    return f"{MARGIN}{sign} {role(message):{LABEL}.{LABEL - 1}}"
