"""Saying which extra brings a package that is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import EmbedderMissing

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needing(embedder: str, extra: str) -> Iterator[None]:
    """Turn a missing import into the command that installs it."""
    try:
        yield
    except ImportError as error:
        package = error.name or "a package"
        raise EmbedderMissing(
            f"semantic.embedder: {embedder!r} needs {package}, which is not installed: "
            f"pip install 'dragoman[{extra}]'"
        ) from None
