"""`dragoman demo`: a real proxy in front of the embedded upstream, with the shipped plugins in it
and its traces in a receiver of our own; a conversation through it, and what it tells of that."""

from __future__ import annotations

import asyncio
import logging
import os
from importlib import resources
from typing import TYPE_CHECKING

import openai
import uvloop

from proxy.errors import ConfigError
from proxy.startup import load, startup_lines

from . import ModelMissing, embedded, report
from .conversation import Conversation, NotRefused
from .receiver import Receiver
from .running import running
from .tree import tree

if TYPE_CHECKING:
    from pathlib import Path

EXPORT_EVERY = 50
"""Milliseconds; left to itself, the SDK sends spans every five seconds."""

LONGEST = 300
"""Seconds, on the slowest of machines with a real model."""

FAILURES = (ConfigError, ModelMissing, NotRefused, OSError, TimeoutError, openai.OpenAIError)


def main(model: str | None) -> int:
    """Run the demo.  Returns the exit code: 1 if anything failed."""
    _keep_to_ourselves()
    try:
        with resources.as_file(resources.files(__package__) / "demo.toml") as file:
            uvloop.run(_demo(model, file))
    except FAILURES as error:
        report.complain(f"The demo failed: {str(error) or type(error).__name__}")
        return 1
    except KeyboardInterrupt:
        return 130  # as shells count it
    return 0


def _keep_to_ourselves() -> None:
    """Whatever the environment says of collectors and proxies, nothing leaves this process."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = str(EXPORT_EVERY)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    # It would complain of the client, which shares our event loop and imports at its first call.
    logging.getLogger("dragoman.loop").disabled = True


async def _demo(model: str | None, file: Path) -> None:
    async with asyncio.timeout(LONGEST), embedded(model) as upstream, Receiver() as receiver:
        flags = {"--upstream": upstream.base_url, "--port": "0", "--admin-port": "0"}
        collector = {"DRAGOMAN_TELEMETRY__ENDPOINT": receiver.endpoint}
        configuration = await asyncio.to_thread(load, file, flags, collector)
        async with running(configuration) as proxy:
            port, admin_port = proxy.server.port, proxy.server.admin_port
            report.begin(startup_lines(configuration, port=port, admin_port=admin_port))
            conversation = Conversation(proxy, receiver)
            await conversation.hold()
        # The proxy has stopped: all spans are there.
        number, spans = max(conversation.traces, key=lambda trace: len(trace[1]))
        report.trace(number, tree(spans))
    report.end()
