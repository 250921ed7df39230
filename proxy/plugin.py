"""Everything that the author of a plugin imports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from .admission import Forwarded
from .answer import alongside, answer
from .chinese import is_traditional, simplified
from .endpoints import Endpoint, EndpointRequest, EndpointResponse
from .errors import (
    APIError,
    ConfigError,
    Conflict,
    ContentRejected,
    InvalidRequest,
    NotFound,
    Overloaded,
    PluginContractError,
    RateLimited,
    Unauthorized,
)
from .exchange import Caller, Outcome, note
from .prices import context_window, cost
from .quantities import Moment, Seconds, Size
from .response import ChatResponse, FullResponse, StreamResponse
from .services import Services
from .store import Scripting, Store, StoreUnavailable, Versioned
from .usage import Report, Usage
from .wire import ChatRequest, Chunk

if TYPE_CHECKING:
    from pathlib import Path

CallNext: TypeAlias = Callable[[ChatRequest], Awaitable[ChatResponse]]

__all__ = [
    "APIError",
    "CallNext",
    "Caller",
    "ChatRequest",
    "ChatResponse",
    "Chunk",
    "ConfigError",
    "Conflict",
    "ContentRejected",
    "Endpoint",
    "EndpointRequest",
    "EndpointResponse",
    "Forwarded",
    "FullResponse",
    "InvalidRequest",
    "Moment",
    "NotFound",
    "Options",
    "Outcome",
    "Overloaded",
    "Plugin",
    "PluginContractError",
    "RateLimited",
    "Report",
    "Scripting",
    "Seconds",
    "Services",
    "Size",
    "Store",
    "StoreUnavailable",
    "StreamResponse",
    "Unauthorized",
    "Usage",
    "Versioned",
    "alongside",
    "answer",
    "context_window",
    "cost",
    "is_traditional",
    "note",
    "simplified",
]


class Options(BaseModel):
    """The options of a plugin in its `[[plugins]]` table.  Unknown keys are refused at start."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Plugin(Generic[OptionsT]):
    """One layer around the upstream call.

    The plugins named in the configuration form an onion: the first is the outermost.  Each is made
    once per process and shared by all requests, so keep what belongs to one request in local
    variables.

    Life: the configuration is checked, then __init__, then start(), then handle() many times, then
    stop().  Nothing before start() may do I/O.
    """

    Config: ClassVar[type[BaseModel]] = Options
    """The options this plugin takes in its `[[plugins]]` table."""

    timeout: ClassVar[float] = 1.0
    """Seconds of its own time that handle() may take, unless the configuration says otherwise."""

    on_error: ClassVar[Literal["open", "closed"]] = "closed"
    """What a failure does, unless the configuration says otherwise: `open` goes on without the
    plugin, `closed` answers 503."""

    enforces: ClassVar[bool] = False
    """Whether it is there to keep a rule, as moderation and limits are.  Endpoints that go round
    such a plugin, because it has no admit(), are named at start."""

    def __init__(self, config: OptionsT, services: Services) -> None:
        self.config = config
        self.services = services

    async def start(self) -> None:
        """Open what you need.  Raise to keep the server from starting: a ConfigError says in a line
        what the operator has to mend; anything else is logged with its traceback."""

    async def handle(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """Serve one chat completion.

        Pass it on, changed or not:      return await call_next(request.replace(messages=...))
        Answer it here:                  return answer(request, "We open at nine.")
        Refuse it:                       raise ContentRejected("...", param="messages")
        Change what comes back:          (await call_next(request)).map_text(str.upper)
        Settle accounts afterwards:      response.on_finish(self.settle)

        call_next may be awaited once; again only after it raised, or returned an error of the
        upstream, which is then discarded.  Only time spent outside it counts against `timeout`.
        """
        return await call_next(request)

    def endpoints(self) -> Sequence[Endpoint]:
        """What the plugin answers by itself: asked after start(), and when others come and go."""
        return ()

    async def admit(self, forwarded: Forwarded) -> None:
        """Let a request to another path go on, before anything of it reaches the upstream.

        Refuse it:                       raise RateLimited("...")
        Add a header to the answer:      forwarded.headers["x-ratelimit-limit-requests"] = "60"
        Count what the answer reports:   forwarded.on_usage(self.charge)
        Settle accounts afterwards:      forwarded.on_finish(self.settle)

        Bodies go on as they come, both ways, and no plugin sees them.  A class that does not
        override this is not asked.
        """

    @classmethod
    def sees_forwarded(cls) -> bool:
        """Whether it is asked about requests to other paths than chat completions."""
        return cls.admit is not Plugin.admit

    def inherit(self, before: Self) -> None:
        """Take over what the plugin of this name has in memory, before start(), where another
        configuration has made this one in its place.  It still serves the requests that have begun,
        and is stopped when they have ended."""

    async def stop(self) -> None:
        """Close what start() opened.  Called in reverse order, also when a later start() failed."""

    @classmethod
    def files(cls, config: OptionsT) -> Iterable[Path]:  # noqa: ARG003  # as for summary()
        """The files that start() reads.  When the configuration is read again, a plugin whose
        options or files have changed is made anew; the others go on as they are."""
        return ()

    @classmethod
    def summary(cls, config: OptionsT) -> str:  # noqa: ARG003  # for those who override it
        """What it does with these options, for the line the server prints when it starts."""
        return ""
