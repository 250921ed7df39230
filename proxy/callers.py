"""Who is asking: by our own table of keys, or by the upstream's key that the client brings."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import Unauthorized
from .exchange import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multidict import CIMultiDictProxy

    from .settings import Key

KEY_PREFIX = "dgm-"
ANONYMOUS = Caller("anonymous")

# How browsers, which cannot set headers on a WebSocket, bring a key:
# https://platform.openai.com/docs/guides/realtime-websocket
KEY_PROTOCOL = "openai-insecure-api-key."


def new_key() -> str:
    """A key for a client: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def fingerprint(key: str) -> str:
    """What the configuration holds of a key: its SHA-256, as hex digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Known(NamedTuple):
    """A key that there is: whose it is, and until when."""

    caller: Caller
    expires: datetime | None

    @classmethod
    def by_hash(cls, keys: Iterable[Key]) -> dict[str, Known]:
        return {
            key.sha256: cls(Caller(key.name, key.name, key.groups, key.models), key.expires)
            for key in keys
        }


class Finding(Protocol):
    """Keys that may change while the proxy runs."""

    def find(self, sha256: str) -> Known | None:
        """The key of this hash, if there is one.  KeysUnavailable if nobody knows yet."""


class Callers:
    """Tells callers apart.  With keys of our own, a client must bring one of them."""

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        ours_only: bool,
        secret: bytes | None = None,
        stored: Finding | None = None,
    ) -> None:
        self._keys = Known.by_hash(keys)
        self._stored = stored
        self._ours_only = ours_only
        # Identities are keyed hashes of whole credentials: no two keys share one, and none can be
        # turned back into a key, or be guessed by somebody who knows the key of another.
        self._secret = secret or secrets.token_bytes(32)

    def identify(self, headers: CIMultiDictProxy[str]) -> Caller:
        """Who sent these headers.  Unauthorized if a key of ours is needed and missing, and
        KeysUnavailable if it may be among those of a store that has not answered yet."""
        credential = _credential(headers)
        if self._keys or self._stored is not None:
            return self._owner(credential)
        if self._ours_only or not credential:
            return ANONYMOUS
        secret = credential.encode("utf-8", "surrogateescape")
        return Caller(hashlib.blake2b(secret, key=self._secret, digest_size=16).hexdigest())

    def _owner(self, credential: str) -> Caller:
        if not credential:
            raise Unauthorized("No API key provided.")
        # Found by its hash, not compared with each: how long that takes may tell how far the hash
        # agrees with another, but nobody can choose the hash of what he sends, and to know the
        # beginning of a hash leaves 256 random bits of a key to be guessed.
        sha256 = fingerprint(credential)
        known = self._keys.get(sha256)
        if known is None and self._stored is not None:
            known = self._stored.find(sha256)
        if known is None:
            raise Unauthorized("Incorrect API key provided.")
        if known.expires is not None and known.expires <= datetime.now(UTC):
            raise Unauthorized("This API key has expired.")
        return known.caller


def _credential(headers: CIMultiDictProxy[str]) -> str:
    authorization = headers.get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    if token and scheme.lower() == "bearer":
        return token.strip()
    if authorization or "api-key" in headers:
        return authorization or headers["api-key"]
    for protocol in headers.get("Sec-WebSocket-Protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return protocol.strip().removeprefix(KEY_PROTOCOL)
    return ""
