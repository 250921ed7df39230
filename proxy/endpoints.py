"""Endpoints of plugins: for clients below /dragoman/v1/, for operators below /admin/."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec

from . import strictjson
from .body import Body
from .errors import ConfigError, InvalidRequest, MethodNotAllowed, NotFound, PluginUnavailable
from .listener import Whole
from .store import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from aiohttp import web
    from multidict import CIMultiDictProxy

    from .body import BodyBudget
    from .exchange import Caller

CLIENTS = "/dragoman/v1/"
OPERATORS = "/admin/"

MAX_BODY = 1_000_000
"""The longest body of a request to an endpoint, in bytes."""

BODY_SECONDS = 30.0

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A request to an endpoint of a plugin."""

    caller: Caller
    """Who asks; the operator, below /admin/."""
    path: Mapping[str, str]
    """What stands in the path for each `{name}`."""
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    body: dict[str, Any]
    """The JSON object that was sent; empty where nothing was."""


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """What an endpoint answers: a text as it is, anything else as JSON."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a plugin answers by itself.

    The path begins with /dragoman/v1/, for clients who have shown their key, or with /admin/, for
    whoever reaches the admin listener.  `{name}` in it stands for one segment.
    `respond` may raise an APIError; if it raises StoreUnavailable, the client is told to come back.
    """

    method: str
    path: str
    respond: Callable[[EndpointRequest], Awaitable[EndpointResponse]]


class Endpoints:
    """Finds the endpoint that a request is for, and answers by it."""

    def __init__(self, endpoints: Iterable[Endpoint], budget: BodyBudget) -> None:
        """ConfigError if two have the same place, or one has a place that is not theirs."""
        self._budget = budget
        self._routes: dict[str, tuple[re.Pattern[str], dict[str, Endpoint]]] = {}
        for each in endpoints:
            if not each.path.startswith((CLIENTS, OPERATORS)):
                raise ConfigError([f"an endpoint of a plugin is below {CLIENTS}: {each.path}"])
            _, by_method = self._routes.setdefault(each.path, (_pattern(each.path), {}))
            if by_method.setdefault(each.method, each) is not each:
                raise ConfigError([f"two plugins answer {each.method} {each.path}"])

    def route(self, path: str) -> str | None:
        """The path of the endpoint, as its plugin wrote it: a label; None if there is none."""
        return next(
            (each for each, (pattern, _) in self._routes.items() if pattern.fullmatch(path)), None
        )

    def below(self, prefix: str) -> list[str]:
        """What can be asked for there, for those who ask for something else."""
        return sorted(path for path in self._routes if path.startswith(prefix))

    async def answer(self, http: web.BaseRequest, caller: Caller) -> Whole:
        """Serve a request.  APIError."""
        path, _, query = http.raw_path.partition("?")
        route = self.route(path)
        if route is None:
            raise NotFound("No plugin that is configured has this endpoint.")
        pattern, by_method = self._routes[route]
        endpoint = by_method.get(http.method)
        if endpoint is None:
            allowed = ", ".join(sorted(by_method))
            raise MethodNotAllowed(f"Allowed here: {allowed}.", headers={"Allow": allowed})
        found = pattern.fullmatch(path)
        assert found is not None
        request = EndpointRequest(
            caller,
            {name: unquote(text) for name, text in found.groupdict().items()},
            dict(parse_qsl(query, keep_blank_values=True)),
            http.headers,
            await self._body(http),
        )
        try:
            response = await endpoint.respond(request)
        except StoreUnavailable:
            raise PluginUnavailable(
                "The store is unavailable. Try again soon.", headers={"Retry-After": "1"}
            ) from None
        return _whole(response)

    async def _body(self, http: web.BaseRequest) -> dict[str, Any]:
        if not http.body_exists:
            return {}
        body = Body(self._budget, limit=MAX_BODY, timeout=BODY_SECONDS)
        try:
            data = await body.read(http)
            return strictjson.decode_object(data) if data else {}
        except strictjson.JSONError as error:
            raise InvalidRequest(str(error), code="invalid_json") from None
        finally:
            body.release()


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(path)))


def _whole(response: EndpointResponse) -> Whole:
    body, headers = response.body, dict(response.headers)
    if body is None:
        return Whole(status=response.status, headers=headers)
    if isinstance(body, str):
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        return Whole(status=response.status, body=body.encode(), headers=headers)
    headers.setdefault("Content-Type", "application/json")
    return Whole(status=response.status, body=msgspec.json.encode(body), headers=headers)
