"""Any server with OpenAI's `/embeddings`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .missing import needing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugins.faq_cache.options import Semantic

    from . import Matrix


class Endpoint:
    """Its own client, key and timeout; it has nothing of the upstream's."""

    at_once = 64
    parallel = 4

    def __init__(self, options: Semantic) -> None:
        with needing("endpoint", "faq-endpoint"):
            import numpy as np
        from openai import OpenAI  # takes half a second to import

        self._array = np.array
        self._norm = np.linalg.norm
        key = options.api_key.get_secret_value() if options.api_key else "none"
        self._client = OpenAI(
            base_url=str(options.base_url), api_key=key, timeout=options.timeout, max_retries=0
        )
        self._model = options.model or ""  # the options have been checked
        self._prefix = options.prefix

    def embed(self, texts: Sequence[str]) -> Matrix:
        answer = self._client.embeddings.create(
            model=self._model, input=[self._prefix + text for text in texts]
        )
        in_order = sorted(answer.data, key=lambda each: each.index)
        if len(in_order) != len(texts):
            raise ValueError(f"{len(in_order)} embeddings for {len(texts)} texts")
        rows = self._array([each.embedding for each in in_order], dtype="float32")
        lengths = self._norm(rows, axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError("an embedding of length 0")
        normal: Matrix = rows / lengths
        return normal

    def close(self) -> None:
        self._client.close()
