"""An explanation as text: removed is red, added is green, kept is dim.

Without colour, signs say it: `-` and `+` before messages, `[-` `-]` and `{+` `+}` around words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.terminal import BOLD, DIM, GREEN, RED

from .drawing import LABEL, MARGIN, draw_field, draw_messages
from .layout import Page, elided

if TYPE_CHECKING:
    from decimal import Decimal

    from .account import Account, Explanation, Failure, Prompt


def report(explanation: Explanation, *, colour: bool) -> list[str]:
    """The lines to print."""
    page = Page(colour=colour)
    page.add(f"{explanation.model or 'no model'}: {_size(explanation.received)}", BOLD)
    for number, account in enumerate(explanation.accounts, 1):
        page.add("")
        _plugin(page, number, account)
    page.add("")
    _result(page, explanation)
    return page.lines


# ---- one plugin


def _plugin(page: Page, number: int, account: Account) -> None:
    failed = account.effect in ("reject", "error")
    acted = failed or account.effect in ("modify", "respond") or account.changes_answer
    style = RED if failed else BOLD if acted else DIM
    page.add(f"{number}  {account.name}: {_doing(account)}", style)
    for field in account.fields:
        draw_field(page, field)
    draw_messages(page, account.messages)
    if account.answer is not None:
        _said(page, "answer", account.answer, GREEN)
    if account.failure is not None:
        _said(page, "error", _failure(account.failure), RED)
    before, after = account.before, account.after
    if before and after and (before.tokens, before.cost) != (after.tokens, after.cost):
        _row(page, "tokens", _difference(before, after))
    if account.notes:
        _row(page, "why", _notes(account.notes))
    if account.deferred:
        _row(page, "later", f"{', '.join(account.deferred)}; not done here")


def _doing(account: Account) -> str:
    """What a plugin did, in a few words."""
    changed = (["messages"] if account.messages else []) + [each.name for each in account.fields]
    would = "would have " if account.shadow else ""
    match account.effect:
        case "unreached":
            done = "the request did not get here"
        case "skip":
            done = "does not see such requests (match)"
        case "respond":
            done = f"{would}answered"
        case "reject":
            done = f"{would}refused"
        case "error" if account.goes_on:
            done = "failed; the request goes on without it"
        case "error":
            done = "failed, and so does the request"
        case _ if changed:
            done = f"{would}changed {', '.join(changed)}"
        case _ if account.changes_answer:
            done = "left the request as it was"
        case _:
            done = "did nothing"
    answer = "; changes the answer" if account.changes_answer else ""
    return f"{'in shadow: ' if account.shadow else ''}{done}{answer}"


def _notes(notes: dict[str, Any]) -> str:
    """What a plugin noted; a pair of before and after as one."""
    parts = []
    for name, value in notes.items():
        subject, _, point = name.rpartition(".")
        if point == "before" and f"{subject}.after" in notes:
            parts.append(f"{subject} {value} -> {notes[f'{subject}.after']}")
        elif point != "after" or f"{subject}.before" not in notes:
            parts.append(f"{name} {value}")
    return "; ".join(parts)


def _failure(failure: Failure) -> str:
    kind = " ".join(str(each) for each in (failure.status, failure.code) if each)
    return ": ".join(each for each in (kind or failure.type, failure.message) if each)


# ---- rows


def _said(page: Page, label: str, text: str, style: str) -> None:
    _row(page, label, elided(text, 600, 200) or "(no text)", style)


def _row(page: Page, label: str, text: str, style: str = "") -> None:
    page.add(text, style, margin=f"{MARGIN}  {label:{LABEL}}")


def _result(page: Page, explanation: Explanation) -> None:
    sent, received = explanation.sent, explanation.received
    if explanation.failure is not None:
        by = "" if explanation.source in ("upstream", "error") else f" by {explanation.source}"
        page.add(f"Refused{by}: {_failure(explanation.failure)}", RED)
    elif sent is None:
        page.add(f"Answered by {explanation.source}: nothing is sent", BOLD)
    else:
        page.add(f"To be sent: {_size(sent)}", BOLD)
        if (sent.tokens, sent.cost) != (received.tokens, received.cost):
            _row(page, "tokens", _difference(received, sent))


def _size(prompt: Prompt) -> str:
    messages = f"{prompt.messages:,} message{'' if prompt.messages == 1 else 's'}"
    whose = f" ({prompt.cost.provider} {prompt.cost.model})" if prompt.cost else ""
    return f"{messages}, {_tokens(prompt)} tokens, {_price(prompt)}{whose}"


def _difference(before: Prompt, after: Prompt) -> str:
    share = round(100 * (after.tokens - before.tokens) / before.tokens) if before.tokens else 0
    tokens = f"{_tokens(before)} -> {_tokens(after)} ({share:+} %)"
    if before.cost is None and after.cost is None:
        return f"{tokens}, unknown price"
    return f"{tokens}, {_price(before)} -> {_price(after)}"


def _tokens(prompt: Prompt) -> str:
    return f"{'about ' if prompt.exactness == 'estimated' else ''}{prompt.tokens:,}"


def _price(prompt: Prompt) -> str:
    return "unknown price" if prompt.cost is None else _dollars(prompt.cost.input)


def _dollars(amount: Decimal) -> str:
    """Cents, or three digits of what is less than a dollar."""
    digits = 2 if amount >= 1 or not amount else 2 - amount.adjusted()
    return f"${amount:,.{digits}f}"
