"""Content codings: how a body that came compressed is read.  Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .errors import UpstreamInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict

READABLE = ("gzip", "deflate", "identity")
"""What we can read: an upstream is asked for nothing else if a plugin may look at the answer."""


def reader(coding: str) -> Callable[[bytes], bytes] | None:
    """An incremental decoder for a Content-Encoding; None for one we cannot read.

    UpstreamInvalid from the decoder, if the bytes are not what the header says.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return bytes
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    # 32: zlib and gzip headers are told apart.  Raw deflate, which some servers send, is neither.
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def decode(data: bytes) -> bytes:
        nonlocal decoder
        try:
            plain = decoder.decompress(data)
            while (rest := decoder.unused_data).startswith(b"\x1f"):  # one more gzip member
                decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
                plain += decoder.decompress(rest)
        except zlib.error:
            raise UpstreamInvalid("The upstream's answer is not compressed as it says.") from None
        return plain

    return decode


def ask_for_readable(fields: CIMultiDict[str]) -> None:
    """Offer an upstream no coding that we cannot read."""
    if "Accept-Encoding" in fields:
        offers = ",".join(fields.popall("Accept-Encoding"))
        fields["Accept-Encoding"] = acceptable(offers)


def acceptable(accept_encoding: str) -> str:
    """The codings of an Accept-Encoding header that we can read, with their weights."""
    offers = [offer.strip() for offer in accept_encoding.split(",")]
    kept = [offer for offer in offers if offer.partition(";")[0].strip().lower() in READABLE]
    return ", ".join(kept) or "identity"
