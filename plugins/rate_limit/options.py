"""The options of the plugin."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from proxy.plugin import Options, Seconds

Positive = Annotated[int, Field(ge=1)]
Period = Annotated[Seconds, Field(gt=0)]


class Match(Options):
    """Which requests a limit holds for."""

    models: tuple[str, ...] = ()
    """Patterns of the requested model, such as "gpt-4o*"."""
    callers: tuple[str, ...] = ()
    """Patterns of the caller: its key's name, "group:" and its key's group, or else its id."""


class Limit(Options):
    """What may be used in a period, by whom."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """What it is called in messages and metrics."""
    per: Literal["caller", "session", "model", "caller+model", "global"] = "caller"
    """Who has an allowance of his own: each caller, each session of a caller, each model, each
    caller for each model; or all share one."""
    requests: Positive | None = None
    """Requests in each period."""
    tokens: Positive | None = None
    """Tokens in each period, of prompts and answers."""
    concurrent: Positive | None = None
    """Requests at once."""
    period: Period = 60.0
    burst: Period | None = None
    """How much may be saved up, as the time in which it accrues.  Absent: a whole period's."""
    match: Match = Match()

    @model_validator(mode="after")
    def _limits_something(self) -> Limit:
        if self.requests is None and self.tokens is None and self.concurrent is None:
            raise ValueError(f"the limit {self.name} has neither requests, tokens nor concurrent")
        return self


class RateLimitOptions(Options):
    """Options of `rate_limit`: the limits, and what happens to requests beyond them."""

    limits: Annotated[tuple[Limit, ...], Field(min_length=1)]
    """All that fit a request must let it through; if one does not, none of them counts it."""
    max_wait: Seconds = 0.0
    """How long a request beyond a limit is kept waiting for its turn.  0: it is refused at once."""
    max_waiting: Positive = 1_000
    """Requests that wait in one process; one more is refused at once."""
    reserve: Literal["most", "expected"] = "most"
    """What is set aside for an answer until it ends: the most it can be, so that a limit of tokens
    is never exceeded by more than one answer; or what is expected, which lets more in at once."""
    first_answer: Positive = 500
    """The tokens that are expected of a caller's first answer from a model."""
    processes: Positive = 1
    """While Redis is gone, each process grants a limit divided by this number."""

    @model_validator(mode="after")
    def _distinct(self) -> RateLimitOptions:
        names = [limit.name for limit in self.limits]
        if len(set(names)) < len(names):
            raise ValueError("two limits have the same name")
        return self
