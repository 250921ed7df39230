"""What is told of a request's way through the chain.  Pure values; two forms are made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.errors import APIError, PluginContractError

from . import diff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.prices import Cost
    from proxy.tokens.count import Exactness
    from proxy.wire import ChatRequest

    from .diff import Change, Field
    from .witness import Effect, Step

_OURS = "dragoman."
_OF_THE_HOUSE = "dragoman.plugin."


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in numbers."""

    messages: int
    tokens: int
    exactness: Exactness = "exact"
    cost: Cost | None = None
    """Of the prompt alone, with nothing of it in the upstream's cache."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is an error in place of an answer."""

    type: str
    message: str | None = None
    """None where a stranger's exception might hold anything."""
    status: int | None = None
    code: str | None = None

    @classmethod
    def of(cls, error: BaseException | None) -> Failure | None:
        if error is None:
            return None
        if isinstance(error, APIError):
            return cls(error.type, error.message, error.status, error.reported_code)
        is_ours = isinstance(error, PluginContractError)
        return cls(type(error).__name__, str(error) if is_ours else None)


@dataclass(frozen=True, slots=True)
class Account:
    """What one plugin did."""

    name: str
    effect: Effect
    shadow: bool = False
    goes_on: bool = False
    """Where it failed: does the exchange go on without it?"""
    milliseconds: float = 0.0
    """Time of its own."""
    before: Prompt | None = None
    """None if nothing arrived."""
    after: Prompt | None = None
    """None if it answered or refused."""
    messages: Sequence[Change] = ()
    """Empty if they are as they were."""
    fields: Sequence[Field] = ()
    """The other fields that changed."""
    notes: dict[str, Any] = field(default_factory=dict)
    answer: str | None = None
    failure: Failure | None = None
    changes_answer: bool = False
    """Has it put something around the answer, or another one in its place?"""
    deferred: Sequence[str] = ()
    """Work that it left for later, and that was not done."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the whole chain did."""

    model: str
    received: Prompt
    accounts: Sequence[Account]
    """One for each plugin, the outermost first."""
    sent: Prompt | None = None
    """What the upstream would get; None if a plugin answered or refused."""
    answer: str | None = None
    failure: Failure | None = None
    source: str = "upstream"
    """Who answers: the name of a plugin, or the upstream."""


def account(step: Step, before: Prompt | None, after: Prompt | None, answer: str | None) -> Account:
    """What there is to tell of a step."""
    name, shadow, mark = step.layer.name, step.layer.shadow, step.mark
    if step.arrived is None or mark is None:
        return Account(name, step.effect, shadow, before=before, after=after)
    made = step.made or step.arrived
    has_failed = step.effect in ("reject", "error")
    return Account(
        name,
        step.effect,
        shadow,
        goes_on=step.goes_on,
        milliseconds=round(mark.own_seconds * 1e3, 3),
        before=before,
        after=after,
        messages=diff.messages(_messages(step.arrived), _messages(made)),
        fields=diff.fields(_others(step.arrived), _others(made)),
        notes=_notes(mark.attributes),
        answer=answer,
        failure=Failure.of(step.error) if has_failed else None,
        changes_answer=any(
            each.plugin == name and each.phase != "request" for each in step.arrived.exchange.marks
        ),
        deferred=tuple(step.deferred),
    )


def _messages(request: ChatRequest) -> list[Any]:
    """The messages; what is none, and may yet stand there, as the content of one."""
    return [each if isinstance(each, dict) else {"content": each} for each in request.messages]


def _others(request: ChatRequest) -> dict[str, Any]:
    fields = dict(request.body)
    if isinstance(fields.get("messages"), list):
        del fields["messages"]
    return fields


def _notes(attributes: dict[str, Any]) -> dict[str, Any]:
    """What the plugin noted, without what the house did."""
    return {
        name.removeprefix(_OURS): value
        for name, value in attributes.items()
        if not name.startswith(_OF_THE_HOUSE)
    }
