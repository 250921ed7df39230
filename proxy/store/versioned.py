"""JSON objects as the bytes of a store, with the version of what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxy import strictjson

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Versioned:
    """Writes and reads objects of one version.

    During an update of the proxy old and new processes share a store: what the other wrote, and
    what is damaged, reads as nothing.
    """

    version: int

    def encode(self, fields: Mapping[str, Any]) -> bytes:
        return strictjson.encode({**fields, "v": self.version})

    def decode(self, value: bytes | None) -> dict[str, Any] | None:
        """The fields; None if there is no value, or it is no object of this version."""
        if value is None:
            return None
        try:
            fields = strictjson.decode_object(value)
        except strictjson.JSONError:
            return None
        return fields if fields.pop("v", None) == self.version else None
