"""SIGHUP means two things: read the configuration again, or the terminal was closed."""

from __future__ import annotations

import os
import signal


class Terminal:
    """The one that this process was started from, if it was started from one and ends with it."""

    def __init__(self) -> None:
        # nohup has it ignored: what is started so outlives its terminal.
        self._was = _is_there() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def is_closed(self) -> bool:
        """Was it there, and is no more?"""
        return self._was and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
