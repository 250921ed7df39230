"""The embedded upstream on its own: `python -m proxy.demo --port 9000`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from . import ModelMissing, embedded, report


def main() -> int:
    """Serve until a signal stops it.  Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m proxy.demo",
        description="An OpenAI-compatible server that needs no key, for trying a proxy on.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", default=9000, type=int, help="the port there (9000)")
    parser.add_argument("--model", choices=["smollm2"], help="a real model, by dragoman[smollm2]")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments.model, arguments.host, arguments.port))
    except (ModelMissing, OSError) as error:
        report.complain(str(error))
        return 1
    return 0


async def _serve(model: str | None, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with embedded(model, host=host, port=port) as upstream:
        report.say(f"{model or 'the demo model'} answers at {upstream.base_url}")
        report.say(f"put a proxy in front: dragoman serve --upstream {upstream.base_url}")
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
