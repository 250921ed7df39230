"""Where a store is: the URL in its parts, without a word of its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

Kind: TypeAlias = Literal["memory", "redis", "unix", "sentinel", "cluster"]

_KINDS: Mapping[str, Kind] = {
    "memory": "memory",
    "redis": "redis",
    "rediss": "redis",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORTS = {"sentinel": 26_379}
_REDIS_PORT = 6_379

_TLS_OPTIONS = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "none"),
    "ssl_check_hostname": ("true", "false"),
}
_SENTINEL_OPTIONS = {"sentinel_username": None, "sentinel_password": None}


@dataclass(frozen=True, slots=True)
class Address:
    """A store's URL, read and checked."""

    scheme: str
    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    """Hosts and ports: of the server, of the sentinels, or of some nodes of the cluster."""
    path: str = ""
    """Of a Unix socket."""
    service: str = ""
    """What the sentinels call the server."""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What stands behind the question mark: certificates, and the sentinels' own password."""

    @property
    def has_tls(self) -> bool:
        return self.scheme.startswith("rediss")

    def __str__(self) -> str:
        """For people and logs: scheme and hosts."""
        hosts = (
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )
        return f"{self.scheme}://{self.path or ','.join(hosts)}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """ValueError, with nothing in it that may be secret, if the URL is none of a store."""
        parts = _split(url)
        kind = _KINDS[parts.scheme]
        if kind == "memory":
            if url != "memory://":
                raise ValueError('has nothing behind "memory://"')
            return cls(parts.scheme, kind)
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        path, service, database = _path(kind, parts.path, options)
        _check_options(parts.scheme, options)
        return cls(
            parts.scheme,
            kind,
            _nodes(kind, hosts),
            path,
            service,
            database,
            unquote(username) or None,
            unquote(password) or None,
            options,
        )


def _split(url: str) -> SplitResult:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError('should be a URL, such as "redis://localhost:6379" or "memory://"')
    if scheme not in _KINDS:
        near = get_close_matches(scheme, _KINDS, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KINDS)}"
        raise ValueError(f"unknown scheme {scheme!r}; {meant}")
    if "#" in url:
        raise ValueError("holds a #; in a password, write %23 for it")
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("is no URL; in a password, write %5B and %5D for [ and ]") from None


def _path(kind: Kind, path: str, options: dict[str, str]) -> tuple[str, str, int]:
    """The socket, the service, and the number of the database, which is taken from the options."""
    if kind == "unix":
        if not path.strip("/"):
            raise ValueError('should name a socket, as "unix:///run/redis.sock" does')
        return path, "", _database(options.pop("db", ""))
    if "@" in path:
        raise ValueError("has an @ behind a /; in a password, write %2F for it")
    rest, service = path.strip("/"), ""
    if kind == "sentinel":
        service, _, rest = rest.partition("/")
        if not service:
            raise ValueError(
                'should end with the name of the service, "redis+sentinel://host/name"'
            )
    database = _database(options.pop("db", rest))
    if kind == "cluster" and database:
        raise ValueError("should name no database: a cluster has only one")
    return "", unquote(service), database


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal()):
        raise ValueError("should end with the number of a database, or with none")
    return int(text or 0)


def _nodes(kind: Kind, hosts: str) -> tuple[tuple[str, int], ...]:
    if kind == "unix":
        if hosts:
            raise ValueError('should have three slashes, as in "unix:///run/redis.sock"')
        return ()
    nodes = tuple(_node(text, _PORTS.get(kind, _REDIS_PORT)) for text in hosts.split(","))
    if kind == "redis" and len(nodes) > 1:
        raise ValueError("should name one host; several are for redis+sentinel and redis+cluster")
    return nodes


def _node(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("should have a number from 1 to 65535 as its port") from None
    if not host:
        raise ValueError("should name a host")
    return host, port or default


def _check_options(scheme: str, options: Mapping[str, str]) -> None:
    known = {
        **(_TLS_OPTIONS if scheme.startswith("rediss") else {}),
        **(_SENTINEL_OPTIONS if scheme.endswith("sentinel") else {}),
    }
    for option, value in options.items():
        if option not in known:
            near = get_close_matches(option, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"has an option that is unknown with {scheme}://{meant}")
        values = known[option]
        if values and value not in values:
            raise ValueError(f"{option} should be {' or '.join(values)}")
