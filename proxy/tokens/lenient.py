"""Reads JSON of any shape: what is not of the kind asked for counts as missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIGHT = 1_000_000  # bytes: 20 ms at worst
_MOST_VALUES = 250_000  # 80 ns each, ten times as long as an escape


def text(source: Mapping[str, Any], key: str) -> str:
    """A string."""
    value = source.get(key)
    return value if isinstance(value, str) else ""


def mapping(source: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object."""
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def mappings(source: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects in an array."""
    value = source.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def decode(data: msgspec.Raw | bytes | str) -> Any:
    """Decode JSON, or raise ValueError or RecursionError.

    Megabytes of small values or of escapes are refused: one call would decode them all, and no
    other thread could run meanwhile.
    """
    if isinstance(data, msgspec.Raw) and len(memoryview(data)) > _LIGHT:
        data = bytes(data)
        if data.count(b",") + data.count(b":") + data.count(b"\\") // 10 > _MOST_VALUES:
            raise ValueError("It would take too long.")
    return msgspec.json.decode(data)


# Escapes in JSON; `lone` is half of a surrogate pair without the other half.
_ESCAPE = re.compile(
    rb"\\(?:[^u]|u[dD][89abAB]..\\u[dD][c-fC-F]..|u(?![dD][89a-fA-F])....|(?P<lone>u....))",
    re.DOTALL,
)


def mended(data: bytes) -> bytes:
    """JSON with U+FFFD for each lone surrogate, which decoders refuse and the encoder so reads."""
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["lone"] else escape[0], data)
