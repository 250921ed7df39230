"""What the kernel says of processes and of the machine.  Linux only: it reads /proc."""

from __future__ import annotations

import os
import platform
import resource
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CORES = sorted(os.sched_getaffinity(0))
TARGET_CORE, LOAD_CORE = CORES[0], CORES[-1]
"""One core for what is measured, and another for what measures, where there are two."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Stay on one core; processes that start meanwhile stay there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        for children in _PROC.glob(f"{one}/task/*/children"):
            found += map(int, children.read_text().split())
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU, user and system, that a process and its descendants have used.

    The scheduler counts nanoseconds, but only of threads that live; the clock ticks of the whole
    process stand in where threads have ended.
    """
    seconds = 0.0
    for one in family(pid):
        stat = (_PROC / f"{one}/stat").read_text().rpartition(")")[2].split()
        ticks = sum(map(int, stat[11:15])) / _TICKS
        tasks = (_PROC / f"{one}/task").glob("*/schedstat")
        seconds += max(ticks, sum(int(each.read_text().split()[0]) for each in tasks) / 1e9)
    return seconds


def rss(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold."""
    return sum(int((_PROC / f"{one}/statm").read_text().split()[1]) for one in family(pid)) * _PAGE


def core_busy(core: int) -> float:
    """Seconds for which a core worked for anybody, also outside of this virtual machine."""
    lines = (line.split() for line in (_PROC / "stat").read_text().splitlines())
    fields = next(line for line in lines if line[0] == f"cpu{core}")
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def room_for(files: int) -> int:
    """How many of so many files this process may open, after the limit is raised all the way."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return files if hard == resource.RLIM_INFINITY else min(files, hard)


def description() -> str:
    """One line: what the numbers were measured on, and when."""
    models = [
        line.partition(":")[2].strip()
        for line in (_PROC / "cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    where = (
        f"proxies on core {TARGET_CORE}, load and upstream on core {LOAD_CORE}"
        if TARGET_CORE != LOAD_CORE
        else "everything on one core: latencies and start-up times mean little"
    )
    return ", ".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            models[0] if models else platform.machine(),
            f"{len(CORES)} core{'s' * (len(CORES) > 1)} ({where})",
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
            f"aiohttp {version('aiohttp')}",
            f"uvloop {version('uvloop')}",
        ]
    )
