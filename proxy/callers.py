"""Who is asking: by our own table of keys, or by the upstream's key that the client brings."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

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


class Callers:
    """Tells callers apart.  With keys configured, a client must bring one of them."""

    def __init__(
        self, keys: Iterable[Key], *, ours_only: bool, secret: bytes | None = None
    ) -> None:
        self._names = {key.sha256: key.name for key in keys}
        self._ours_only = ours_only
        # Identities are keyed hashes of whole credentials: no two keys share one, and none can be
        # turned back into a key, or be guessed by somebody who knows the key of another.
        self._secret = secret or secrets.token_bytes(32)

    def identify(self, headers: CIMultiDictProxy[str]) -> Caller:
        """Who sent these headers.  Unauthorized if a key of ours is needed and missing."""
        credential = _credential(headers)
        if self._names:
            name = self._names.get(fingerprint(credential)) if credential else None
            if name is None:
                raise Unauthorized(
                    "Incorrect API key provided." if credential else "No API key provided."
                )
            return Caller(name, name)
        if self._ours_only or not credential:
            return ANONYMOUS
        secret = credential.encode("utf-8", "surrogateescape")
        return Caller(hashlib.blake2b(secret, key=self._secret, digest_size=16).hexdigest())


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
