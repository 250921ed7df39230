"""Embeddings without a model: texts that share words and parts of words lie near each other."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any

from .errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.tokens import Tokenizer

    from .bodies import Embeddings

DIMENSIONS = 1536


async def embed(request: Embeddings, tokens: Tokenizer) -> dict[str, Any]:
    """The answer to a request for embeddings."""
    entries, prompt_tokens = [], 0
    for index, (text, known) in enumerate(_inputs(request.input)):
        prompt_tokens += known or await tokens.count_text(text, request.model)
        packed = vector(text, request.dimensions or DIMENSIONS)
        embedding: Any = struct.unpack(f"<{len(packed) // 4}f", packed)
        if request.encoding_format == "base64":
            embedding = base64.b64encode(packed).decode()
        entries.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return {"object": "list", "data": entries, "model": request.model, "usage": usage}


def _inputs(values: list[Any]) -> Iterator[tuple[str, int | None]]:
    """The texts to embed; tokens become a text of numbers, with how many they are."""
    if all(isinstance(value, int) for value in values):
        values = [values]
    for at, value in enumerate(values):
        if isinstance(value, str) and value:
            yield value, None
        elif isinstance(value, list) and value and all(isinstance(each, int) for each in value):
            yield " ".join(map(str, value)), len(value)
        else:
            message = "'$.input' is invalid: texts, or arrays of tokens, and none of them empty."
            raise UpstreamError(400, message, param=f"input[{at}]")


def vector(text: str, dimensions: int) -> bytes:
    """A text's vector of length 1, as 32-bit floats: the hash of a feature says where it counts."""
    values = [0.0] * dimensions
    for feature in _features(text):
        hashed = zlib.crc32(feature.encode())
        values[hashed % dimensions] += 1.0 if hashed & 1 << 31 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def _features(text: str) -> Iterator[str]:
    """The words of a text, and all that is three letters long in them."""
    for word in text.lower().split():
        yield word
        framed = f"<{word}>"
        yield from (framed[at : at + 3] for at in range(len(framed) - 2))
