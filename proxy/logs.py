"""The log on stderr: what an operator should know, and nothing that a client sent."""

from __future__ import annotations

import logging
import sys

from .throttle import Throttle

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Once(logging.Filter):
    """Lets a library's complaint through once a minute: a dead collector is one for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.name.partition(".")[0] == "dragoman"
        return ours or self._throttle.allows(record.name, record.levelno)


def start(level: str) -> None:
    """Log to stderr, from this level up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(_Once())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # A full disk or a closed pipe would have every lost record explained at length.
    logging.raiseExceptions = False


def name_worker(number: int) -> None:
    """Say on each line which of several processes speaks."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(FORMAT.replace(":", f" [worker {number}]:")))
