"""What one of several processes on a port is given by the one that starts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .derive import Root


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place among the others.  Whoever takes it after a crash has the same one."""

    number: int
    """1 for the first."""
    port: int
    """Of the API; it is reserved, and all workers listen there."""
    admin_port: int
    root: Root
    """The secret of all workers, so that what one has stored the others find."""
    metrics: Path
    """The folder where the metrics of all workers are."""
    lines: int
    """A file descriptor; who has the lock of it may write a line of the turn log."""
