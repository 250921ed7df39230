"""What is noted about one exchange while it runs, to be read when it has ended."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .patterns import fits
from .watch import AnswerFacts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

    from .errors import APIError
    from .response import FullResponse
    from .usage import Report, Usage
    from .wire import ChatRequest, Chunk

    OnFinish: TypeAlias = Callable[["Outcome"], Awaitable[None]]
    OnShown: TypeAlias = Callable[["FullResponse | Chunk | None"], None]
    OnUsage: TypeAlias = Callable[[Report], Awaitable[None]]

GROUP = "group:"
"""What a pattern of groups begins with; no name of a key holds a colon."""

Phase = Literal["request", "response", "stream"]
PluginOutcome = Literal["pass", "modify", "respond", "reject", "error", "skip"]
Status = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended.  Each on_finish callback gets it once, also when the client left."""

    status: Status
    usage: Usage | None
    finish_reason: str | None
    error: APIError | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.  `id` keys limits, caches, sessions; it cannot be turned back into the API key."""

    id: str
    name: str | None = None
    """The name of the key, if it is one of ours; None where clients bring the upstream's key."""
    groups: tuple[str, ...] = ()
    """The groups that the key is in."""
    models: tuple[str, ...] = ()
    """Patterns of the models that the key may ask; empty: all."""

    def fits(self, patterns: tuple[str, ...]) -> bool:
        """Is it one of those that the patterns name?  No patterns name everybody.

        A pattern is one of names (of ids, where there are no names), or "group:" and one of groups.
        """
        if not patterns:
            return True
        names, groups = _names_and_groups(patterns)
        return fits(self.name or self.id, names) or any(fits(each, groups) for each in self.groups)


@lru_cache(4_096)
def _names_and_groups(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(each for each in patterns if not each.startswith(GROUP)),
        tuple(each.removeprefix(GROUP) for each in patterns if each.startswith(GROUP)),
    )


@dataclass(slots=True)
class Trace:
    """The place of an exchange in a distributed trace: https://www.w3.org/TR/trace-context/."""

    trace_id: int
    span_id: int
    flags: int
    state: str = ""
    parent_id: int | None = None
    linked: tuple[int, int] | None = None
    """Trace and span of an incoming context that is linked to, not continued."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & 1)

    def parent_of(self, span_id: int) -> str:
        """The `traceparent` that makes somebody else's span a child of the given one."""
        return f"00-{self.trace_id:032x}-{span_id:016x}-{self.flags:02x}"


@dataclass(slots=True)
class Mark:
    """What one plugin did in one phase of one exchange."""

    plugin: str
    phase: Phase
    start_ns: int
    outcome: PluginOutcome = "pass"
    own_seconds: float = 0.0
    """Time the plugin itself took, without what lies further in."""
    end_ns: int = 0
    span_id: int = 0
    error_type: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


CURRENT_MARK: ContextVar[Mark] = ContextVar("dragoman_mark")


def note(**attributes: Any) -> None:
    """Put attributes on the span of the plugin that runs, as in `note(cache_hit=True)`.

    Names are written with `_` for `.`, and get the prefix `dragoman.`.
    """
    if (mark := CURRENT_MARK.get(None)) is not None:
        mark.attributes.update(
            {f"dragoman.{name.replace('_', '.')}": value for name, value in attributes.items()}
        )


@dataclass(slots=True)
class Attempt:
    """One HTTP request to the upstream."""

    start_ns: int
    span_id: int
    status: int | None = None
    error_type: str | None = None
    end_ns: int = 0


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer, from its first byte to its last."""

    id: str
    method: str
    path: str
    route: str
    """The path, or for rare paths a pattern: few enough to be a label."""
    is_chat: bool = False
    start: float = field(default_factory=time.perf_counter)
    start_ns: int = field(default_factory=time.time_ns)
    trace: Trace | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    """Address and user agent of the client, as span attributes."""

    # what was asked
    caller: Caller | None = None
    session: str | None = None
    model: str | None = None
    stream: bool = False

    # what happened
    marks: list[Mark] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    sent: ChatRequest | None = None
    """The request as the upstream saw it, where it saw any."""
    upstream_seconds: float = 0.0
    """Time in which there was nothing to do but to wait for the upstream."""
    paced_seconds: float = 0.0
    """Of these, time in which it was other requests' turn."""
    rewrites: list[tuple[Mark, ChatRequest, ChatRequest]] = field(default_factory=list)
    """Plugins that changed the messages, with the request before and after: to be counted."""
    rehearsals: list[asyncio.Task[Any]] = field(default_factory=list)
    """Plugins in shadow mode that still run, and such as are told of a usage."""
    saved_tokens: int = 0

    # how it ended
    status: int = 0
    status_word: Status = "completed"
    source: str = "upstream"
    """Who answered: `upstream`, the name of a plugin, or `error`."""
    termination: str = "completed"
    """Who ended it and how: `completed`, `client_closed`, or the code of an error."""
    error: APIError | None = None
    first_chunk: float | None = None
    facts: AnswerFacts = field(default_factory=AnswerFacts)
    """What the answer says of itself: model, usage, why it ended."""
    upstream_error: str | None = None
    """The `error.code` of the upstream, where it answered with an error."""
    callbacks: list[OnFinish] = field(default_factory=list)
    usage_callbacks: list[OnUsage] = field(default_factory=list)
    """Who is told what the answer to a forwarded request reports."""
    untold: list[Report] = field(default_factory=list)
    """What it has reported, and nobody has been told yet."""
    viewers: list[OnShown] = field(default_factory=list)
    """Plugins that look at what the client is shown."""

    def now_ns(self) -> int:
        """The time now, by the clock as it stood when the exchange began: clocks jump."""
        return self.start_ns + int((time.perf_counter() - self.start) * 1e9)

    @property
    def is_metered(self) -> bool:
        """Does somebody want to know what a forwarded answer reports, or may come to want it?"""
        return bool(self.usage_callbacks or (self.rehearsals and not self.is_chat))

    def reported(self, report: Report) -> None:
        """The answer to a forwarded request tells a usage: its only one, or one more."""
        usage = self.facts.usage
        self.facts.usage = report.usage if usage is None else usage + report.usage
        self.model = report.model or self.model
        self.untold.append(report)

    def outcome(self) -> Outcome:
        reasons = self.facts.finish_reasons
        return Outcome(
            self.status_word, self.facts.usage, reasons[0] if reasons else None, self.error
        )
