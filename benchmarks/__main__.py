"""The benchmark: our proxy beside a bare aiohttp proxy, in one run.  make bench

Each round starts every target anew on one core, with the load and a mock upstream on another.  Each
measure then goes from target to target, and back, so that what the machine does meanwhile falls on
all of them alike.  The figure to trust is CPU time as a multiple of the bare proxy's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from . import machine, report
from .installed import installed
from .measures import MEASURES, Bench
from .targets import DIRECT, TARGETS, Running, running
from .upstream import Upstream

if TYPE_CHECKING:
    from .measures import Row
    from .report import Rows

RESULTS = Path(__file__).parent / "results"
GROUPS = list(dict.fromkeys(measure.group for measure in MEASURES))
NAMES = [target.name for target in TARGETS]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measure in a round")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--only", default=",".join(GROUPS), metavar="A,B", help="%(default)s")
    parser.add_argument("--targets", default=",".join(NAMES), metavar="A,B", help="%(default)s")
    parser.add_argument("--installed", action="store_true", help="a minute more: size on disk")
    parser.add_argument(
        "--results", type=Path, help="a folder to keep them in; for whole runs benchmarks/results"
    )
    options = parser.parse_args(argv)
    options.only, options.targets = options.only.split(","), options.targets.split(",")
    if unknown := {*options.only, *options.targets} - {*GROUPS, *NAMES}:
        parser.error(f"no such thing: {', '.join(sorted(unknown))}")
    if options.quick:
        options.rounds, options.seconds = 1, 0.3
    elif options.results is None and (options.only, options.targets) == (GROUPS, NAMES):
        options.results = RESULTS
    return options


async def run(bench: Bench, options: argparse.Namespace) -> Rows:
    """All rounds; the rows that the tables are made of."""
    rows: Rows = []
    measures = [measure for measure in MEASURES if measure.group in options.only]
    targets = [
        target
        for target in TARGETS
        if target.name in options.targets and any(target in each.targets for each in measures)
    ]
    for number in range(options.rounds):
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dragoman-"))
            order = running(targets if number % 2 == 0 else targets[::-1], bench.upstream.port)

            proxies = [target for target in order if target.target is not DIRECT]

            def note(measure: str, target: Running, row: Row, way: str = f"{number}") -> None:
                rows.append({"round": way, "measure": measure, "target": target.name, **row})

            for target in proxies:
                stack.push_async_callback(target.stop)
                await target.start(Path(folder), bench.upstream)
                note("start", target, {"seconds": target.start_seconds, "rss": target.rss()})
            for measure in measures:
                ways = [(f"{number}", order), (f"{number}, back", order[::-1])]
                for way, each in ways[: 1 if measure.once else 2]:
                    for target in each:
                        if target.target in measure.targets:
                            gc.collect()
                            note(measure.name, target, await measure.run(bench, target), way)
                print(f"round {number + 1}: {measure.name}", file=sys.stderr, flush=True)
            for target in proxies:
                note("end", target, {"rss": target.rss()})
    return rows


async def record(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return all there is to report."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with Upstream() as upstream:
        bench = Bench(upstream, options.seconds / 2)
        return {
            "machine": machine.description(),
            "options": {"rounds": options.rounds, "seconds": options.seconds},
            "rows": await run(bench, options),
            "answers": bench.answers,
            "wrong": dict(bench.wrong),
        }


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    weight = installed() if options.installed else {}
    machine.room_for(0)
    gc.disable()  # the load generator makes no cycles; a pause of it would look like the target's
    with machine.pinned(machine.LOAD_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as r:
        found = r.run(record(options)) | {"installed": weight}
    text = report.markdown(found)
    print(text)
    if options.results is not None:
        keep(found, text, options.results)
    return 1 if found["wrong"] else 0


def keep(found: dict[str, Any], text: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(text)
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    try:
        from . import plot

        plot.draw(report.Results(found["rows"]), found["machine"], folder)
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("interrupted")
