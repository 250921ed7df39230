"""An explanation as one JSON document.  Its keys are described in docs/explain.md, and stay."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from .diff import ABSENT, Added, Changed, Kept, Removed

if TYPE_CHECKING:
    from .account import Account, Explanation, Failure, Prompt
    from .diff import Change, Field


def document(explanation: Explanation) -> bytes:
    """The document, indented."""
    value = {
        "model": explanation.model,
        "received": _prompt(explanation.received),
        "plugins": [_plugin(account) for account in explanation.accounts],
        "result": _result(explanation),
        "source": explanation.source,
        "sent": _prompt(explanation.sent),
        "answer": explanation.answer,
        "error": _error(explanation.failure),
    }
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=repr), indent=2)


def _result(explanation: Explanation) -> str:
    if explanation.failure is not None:
        return "refused"
    return "answered" if explanation.sent is None else "sent"


def _plugin(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "mode": "shadow" if account.shadow else "apply",
        "outcome": account.effect,
        "ms": account.milliseconds,
        "messages": [_change(change) for change in account.messages],
        "fields": [_field(field) for field in account.fields],
        "before": _prompt(account.before),
        "after": _prompt(account.after),
        "notes": account.notes,
        "answer": account.answer,
        "error": _error(account.failure),
        "changes_answer": account.changes_answer,
        "deferred": list(account.deferred),
    }


def _change(change: Change) -> dict[str, Any]:
    match change:
        case Kept(messages):
            return {"change": "kept", "count": len(messages)}
        case Removed(message):
            return {"change": "removed", "message": message}
        case Added(message):
            return {"change": "added", "message": message}
        case Changed(before, after):
            words = [{"change": kind, "text": text} for kind, text in change.spans]
            return {"change": "changed", "before": before, "after": after, "words": words}


def _field(field: Field) -> dict[str, Any]:
    """A side that is missing was absent: null is a value."""
    sides = {"before": field.before, "after": field.after}
    return {
        "name": field.name,
        **{side: value for side, value in sides.items() if value is not ABSENT},
    }


def _prompt(prompt: Prompt | None) -> dict[str, Any] | None:
    if prompt is None:
        return None
    cost = prompt.cost
    price = None if cost is None else {"provider": cost.provider, "model": cost.model}
    return {
        "messages": prompt.messages,
        "tokens": prompt.tokens,
        "exactness": prompt.exactness,
        "cost_usd": None if cost is None else float(cost.input),
        "price": price,
    }


def _error(failure: Failure | None) -> dict[str, Any] | None:
    return None if failure is None else asdict(failure)
