"""The folder that a parent and its workers have in common, while one of them lives."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from proxy.errors import ConfigError

_PREFIX = "dragoman-"
_SETTLED = 60
"""Seconds after which a folder has its lock, if anybody is going to use it."""


def folder(until: ExitStack) -> Path:
    """A new folder, removed at the end.  ConfigError if there is no place for one.

    It is where no disk is written, if there is such a place: in a container, that can be written to
    when nothing else can.  Who is killed with all workers leaves one behind, and the next one that
    starts removes it.
    """
    shm = Path("/dev/shm")  # noqa: S108  # the folder inside it is ours alone
    try:
        place = shm if os.access(shm, os.W_OK | os.X_OK) else Path(gettempdir())
        _sweep(place)
        made = Path(mkdtemp(prefix=_PREFIX, dir=place))
    except OSError as error:
        reason = f"workers need a place for their metrics: {error.strerror or error}"
        raise ConfigError([reason]) from error
    until.callback(shutil.rmtree, made, ignore_errors=True)
    # Forks have the same lock: it is free when the last of them has ended, however it ends.
    until.callback(os.close, _locked(made))
    return made


def _locked(path: Path) -> int:
    """BlockingIOError if somebody else has the lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(place: Path) -> None:
    """Remove what those left who were killed."""
    for left in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = left.lstat()
            if found.st_uid == os.getuid() and time.time_ns() / 1e9 - found.st_mtime > _SETTLED:
                os.close(_locked(left))
                shutil.rmtree(left)
