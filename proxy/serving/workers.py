"""Several processes on one port: starts them, starts again those that end, ends with them.

The parent serves nobody.  It holds the configuration, the ports and what all workers share, and
waits for signals and for what workers say.  It forks before there is any thread, event loop or
telemetry, so that a worker begins as a process of its own would.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import logs
from proxy.derive import Root
from proxy.errors import ConfigError
from proxy.seat import Seat
from proxy.startup import startup_lines
from proxy.telemetry import shared

from . import family, worker
from .hangup import Terminal
from .ports import reserve
from .process import raise_file_limit
from .reload import LOOK_SECONDS, Change, Watch, tell_refusal

if TYPE_CHECKING:
    from proxy.config import Configuration

    from .reload import Reread

log = logging.getLogger("dragoman.workers")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a worker that ended is started again: doubled each time ..."""

CALM = 60.0
"""... until one has lived so long."""

LATE = 60.0
"""Seconds that a worker may take to end, besides those that running answers have."""


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int = 0
    """0 while it does not run."""
    news: int = -1
    """What it says at its start comes here; -1 when it has said it."""
    said: bytes = b""
    configuration: Configuration | None = None
    since: float = 0.0
    pause: float = 0.0
    due: float = 0.0
    """When it is started again; 0 while none of its processes has been lost."""

    @property
    def ready(self) -> bool:
        return bool(self.pid) and self.said == worker.READY


def run(configuration: Configuration, reread: Reread) -> int:
    """Serve until SIGTERM or SIGINT; a second one exits at once.  SIGHUP reads the configuration
    again.  Returns the exit code."""
    server = configuration.settings.server
    logs.start(server.log_level)
    raise_file_limit()
    try:
        with ExitStack() as stack:
            port = reserve(server.host, server.port, stack)
            admin_port = reserve(server.admin_host, server.admin_port, stack)
            folder = family.folder(stack)
            lines = os.open(folder / "lines", os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, lines)
            root = Root(configuration.settings.store.secret)
            seats = [
                Seat(number, port, admin_port, root, folder, lines)
                for number in range(1, server.workers + 1)
            ]
            return _Parent(configuration, reread, seats).run()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


class _Parent:
    def __init__(self, configuration: Configuration, reread: Reread, seats: list[Seat]) -> None:
        self._configuration = configuration
        self._proven = configuration
        """With this one, a worker has begun to serve."""
        self._reread = reread
        self._watch = Watch(configuration)
        self._terminal = Terminal()
        self._seats = seats
        self._workers = [_Worker(seat.number) for seat in seats]
        self._life, self._alive = os.pipe()
        """Nobody writes; what is read from it ends when this process does."""
        self._signals, self._woken = os.pipe()
        self._code = 0
        self._serving = False
        self._stopping_since: float | None = None
        self._looked = time.monotonic()

    def run(self) -> int:
        """Until all workers have ended for good."""
        os.set_blocking(self._signals, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in worker.SIGNALS:
            signal.signal(number, _nothing)  # it is the wakeup that counts
        # The first one shows whether any can start: what is wrong is said once.
        if self._start(self._workers[:1]) and self._start(self._workers[1:]):
            self._serving = True
            seat = self._seats[0]
            said = startup_lines(self._configuration, port=seat.port, admin_port=seat.admin_port)
            print(*said, sep="\n", file=sys.stderr, flush=True)
        while self._stopping_since is None or any(each.pid for each in self._workers):
            self._step()
        return self._code

    def _start(self, workers: list[_Worker]) -> bool:
        """Start these, and wait until they serve.  False if one cannot, or is not to any more."""
        for each in workers:
            self._fork(each)
        while self._stopping_since is None and not all(each.ready for each in workers):
            self._step()
        return self._stopping_since is None

    def _step(self) -> None:
        """Wait for something to happen, or for the time to do something."""
        news = [each.news for each in self._workers if each.news >= 0]
        readable, _, _ = select.select([self._signals, *news], [], [], self._patience())
        for each in self._workers:
            if each.news in readable:
                self._listen(each)
        if self._signals in readable:
            for number in os.read(self._signals, 256):
                self._heed(number)
        now = time.monotonic()
        if self._stopping_since is None:
            for each in self._workers:
                if self._serving and not each.pid and now >= each.due:
                    self._fork(each)
            self._look(now)
        elif now - self._stopping_since > self._longest_stop():
            log.error("workers do not end; they are killed")
            self._kill()

    def _patience(self) -> float | None:
        now = time.monotonic()
        if self._stopping_since is not None:
            return max(0.0, self._stopping_since + self._longest_stop() - now)
        times = [each.due for each in self._workers if self._serving and not each.pid]
        if self._watches():
            times.append(self._looked + LOOK_SECONDS)
        return max(0.0, min(times) - now) if times else None

    # ---- workers

    def _fork(self, each: _Worker) -> None:
        gc.freeze()  # the pages of what is there now are the parent's and all workers'
        news, tell = os.pipe()
        each.configuration = self._configuration
        old = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
        pid = os.fork()
        if pid == 0:
            os.close(self._alive)
            os.close(news)
            seat = self._seats[each.number - 1]
            worker.become(self._configuration, self._reread, seat, life=self._life, tell=tell)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        os.close(tell)
        each.pid, each.news, each.said, each.since = pid, news, b"", time.monotonic()

    def _listen(self, each: _Worker) -> None:
        if data := os.read(each.news, 65_536):
            each.said += data
            return
        os.close(each.news)
        each.news = -1
        if each.ready and each.due:
            self._proven = each.configuration or self._proven
            log.info("worker %d serves again", each.number)

    def _reap(self) -> None:
        for each in self._workers:
            if not each.pid:
                continue
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if pid:
                while each.news >= 0:
                    self._listen(each)
                each.pid = 0
                shared.forget(self._seats[each.number - 1].metrics, each.number)
                if self._stopping_since is None:
                    self._lost(each, os.waitstatus_to_exitcode(status))

    def _lost(self, each: _Worker, code: int) -> None:
        """One has ended by itself."""
        reason = each.said.decode(errors="replace") if each.said != worker.READY else ""
        if not self._serving:
            print(reason or f"worker {each.number} {_how(code)}", file=sys.stderr, flush=True)
            self._code = code if code > 0 else 1
            self._stop()
            return
        if each.said != worker.READY and self._configuration is not self._proven:
            self._configuration = self._proven
            reason += "; with the configuration of before"
        now = time.monotonic()
        calm = not each.pause or now - each.since >= CALM
        each.pause = FIRST_PAUSE if calm else min(LONGEST_PAUSE, each.pause * 2)
        each.due = now + each.pause
        why = f"could not start: {reason}" if reason else _how(code)
        log.error("worker %d %s; the next one starts in %g s", each.number, why, each.pause)

    def _stop(self) -> None:
        self._stopping_since = time.monotonic()
        self._send(signal.SIGTERM)

    def _kill(self) -> None:
        self._code = 1
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for each in self._workers:
            if each.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, number)

    def _longest_stop(self) -> float:
        server = self._configuration.settings.server
        return server.grace + server.drain + LATE

    # ---- what is asked for

    def _heed(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP and not self._terminal.is_closed():
            if self._serving and self._stopping_since is None:
                self._reload()
        elif self._stopping_since is None:
            self._stop()
        else:
            self._kill()

    def _watches(self) -> bool:
        return self._serving and self._configuration.settings.server.watch_config

    def _look(self, now: float) -> None:
        if self._watches() and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._watch.changed():
                self._reload()

    def _reload(self) -> None:
        """Read the configuration for workers to come, and have those that run read it.  They are
        told in any case, so that each of them counts it."""
        self._watch.note()
        try:
            change = Change.of(self._configuration, self._reread())
        except ConfigError as error:
            tell_refusal(error)
        else:
            change.tell()
            if change.applied:
                self._configuration = change.configuration
            level = change.configuration.settings.server.log_level
            logging.getLogger().setLevel(level.upper())
            self._watch.follow(self._configuration)
        self._send(signal.SIGHUP)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _nothing(*_: object) -> None:
    pass
