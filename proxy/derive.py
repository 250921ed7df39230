"""Secrets for many purposes out of one: who learns the one of a plugin cannot tell the others."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr


class Root:
    """The secret that others are derived from: the operator's, or one made anew."""

    def __init__(self, secret: SecretStr | None) -> None:
        given = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
        self._key = hashlib.sha256(given).digest()

    def secret(self, purpose: str) -> bytes:
        """32 bytes, the same for the same purpose."""
        return hashlib.blake2b(purpose.encode(), key=self._key, digest_size=32).digest()
