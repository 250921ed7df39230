"""Metrics of several processes, added up: each writes its own to files, and any can read all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def share(folder: Path, number: int) -> None:
    """Keep what this process counts from here on in the folder, under its number.

    The library chooses when it is imported, which is before the configuration says how many
    processes there are; so its choice is made again.  Files are named by a number and not, as by
    default, by the process: who takes the place of a process that died counts on from there, and
    crashes leave no files behind.
    """
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def of_all(folder: Path) -> CollectorRegistry:
    """What all processes have counted."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget(folder: Path, number: int) -> None:
    """Drop what only a running process has: its gauges."""
    mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]
