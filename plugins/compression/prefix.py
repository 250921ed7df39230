"""A hash for each prefix of a chat: what was made from one is found again under it, and nowhere
else.

The hashes are chained: the one of a message covers all messages before it.  Who edits a message, or
sends another answer of the model back, gets other hashes from there on; what was made of the common
beginning still holds, and nothing has to be deleted.  The first link holds who asks, so that no
caller can meet or guess what belongs to another.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE = 32


def chain(secret: bytes, owner: str, digests: Iterable[bytes]) -> list[bytes]:
    """The hash before each message, and the one behind the last: BLAKE2b, keyed by the one before.

    `owner` names the caller and all settings that decide what is made of the messages.
    """
    link = blake2b(owner.encode(), key=secret, digest_size=SIZE).digest()
    links = [link]
    for digest in digests:
        link = blake2b(digest, key=link, digest_size=SIZE).digest()
        links.append(link)
    return links


def segment_key(start: bytes, end: bytes) -> str:
    """The name of what stands for the messages between two links."""
    return blake2b(start, key=end, digest_size=SIZE).hexdigest()


def chat_key(secret: bytes, owner: str, digest: bytes) -> str:
    """The name of a chat, by its caller and its first message; no longer than 64 characters."""
    return blake2b(owner.encode() + b"\0" + digest, key=secret, digest_size=16).hexdigest()
