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

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def for_upstream(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of a client's request that its upstream sees, in order, duplicates included."""
    kept = CIMultiDict(
        [
            (name, value)
            for name, value in headers
            if (lower := name.lower()) not in _ENDS_HERE and not lower.startswith(OURS)
        ]
    )
    return _without_named_by_connection(kept, headers)


def for_client(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of an upstream's answer that the client sees, in order, duplicates included."""
    kept = CIMultiDict([(n, v) for n, v in headers if n.lower() not in HOP_BY_HOP])
    return _without_named_by_connection(kept, headers)


def _without_named_by_connection(
    kept: CIMultiDict[str], headers: Iterable[tuple[str, str]]
) -> CIMultiDict[str]:
    """Drop the headers that `Connection` names: they too are for one hop."""
    for name, value in headers:
        if name.lower() == "connection":
            for token in value.split(","):
                kept.popall(token.strip(), None)
    return kept


def options(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The client's `x-dragoman-*` headers by their name without the prefix, in lower case."""
    return {
        lower[len(OURS) :]: value
        for name, value in headers
        if (lower := name.lower()).startswith(OURS)
    }


def valid_request_id(value: str | None) -> str | None:
    """A request id a client may choose, or None: ids are copied into logs and headers."""
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def set_key(headers: CIMultiDict[str], name: str, key: str) -> None:
    """Put the upstream's key in place of whatever the client brought."""
    for theirs in ("authorization", "api-key"):
        headers.popall(theirs, None)
    headers[name] = f"Bearer {key}" if name == "authorization" else key
