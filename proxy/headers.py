"""Which headers may cross the proxy, and which are about one connection only.  Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# RFC 9110, section 7.6.1, and what the field has learned to add: Keep-Alive and Proxy-Connection
# come from old clients, Alt-Svc would send the client past the proxy.
HOP_BY_HOP = frozenset(
    {
        "alt-svc",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Of a request, these too end here: the client library writes its own Host, `Expect` was answered
# by us, and the body's length is decided when the body is known.
_ENDS_HERE = HOP_BY_HOP | {"host", "expect", "content-length"}

OURS = "x-dragoman-"
"""Headers with this prefix are spoken between a client and us; they never reach the upstream."""

_SESSION = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def for_upstream(
    headers: Iterable[tuple[str, str]],
) -> tuple[CIMultiDict[str], dict[str, str]]:
    """Split the headers of a client's request: what its upstream sees, and what is for us.

    The first in order, duplicates included; the second, its `x-dragoman-*` headers, by their name
    without the prefix in lower case.
    """
    kept: list[tuple[str, str]] = []
    options: dict[str, str] = {}
    named: list[str] = []
    # Of a name in two spellings, aiohttp's client would send the last value only.
    spelling: dict[str, str] = {}
    for item in headers:
        lower = item[0].lower()
        if lower in _ENDS_HERE:
            if lower == "connection":
                named += item[1].split(",")
        elif lower.startswith(OURS):
            options[lower[len(OURS) :]] = item[1]
        else:
            kept.append((spelling.setdefault(lower, item[0]), item[1]))
    return _without(CIMultiDict(kept), named), options


def for_client(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of an upstream's answer that the client sees, in order, duplicates included."""
    kept: list[tuple[str, str]] = []
    named: list[str] = []
    for item in headers:
        lower = item[0].lower()
        if lower not in HOP_BY_HOP:
            kept.append(item)
        elif lower == "connection":
            named += item[1].split(",")
    return _without(CIMultiDict(kept), named)


def _without(headers: CIMultiDict[str], named: list[str]) -> CIMultiDict[str]:
    """Drop the headers that `Connection` names: they too are about one hop."""
    for name in named:
        headers.popall(name.strip(), None)
    return headers


def session(options: Mapping[str, str]) -> str | None:
    """The conversation that a request's own headers for us name."""
    named = options.get("session", "")
    return named if _SESSION.fullmatch(named) else None


def valid_request_id(value: str | None) -> str | None:
    """A request id a client may choose, or None: ids are copied into logs and headers."""
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def set_key(headers: CIMultiDict[str], name: str, key: str) -> None:
    """Put the upstream's key in place of whatever the client brought."""
    for theirs in ("authorization", "api-key"):
        headers.popall(theirs, None)
    headers[name] = f"Bearer {key}" if name == "authorization" else key
