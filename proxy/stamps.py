"""When a file was written: what tells that it has changed since it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Stamp: TypeAlias = tuple[int, ...]


def stamp(path: Path) -> Stamp:
    """What changes when somebody writes a file, or puts another in its place; () if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
