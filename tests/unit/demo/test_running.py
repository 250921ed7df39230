"""The turn log of a proxy in the same process is read as values."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest

from proxy.demo import Upstream
from proxy.demo import running as module
from proxy.demo.running import TurnLog, running
from proxy.startup import load
from proxy.telemetry.turns import Turn

PLAIN = {str: "x", int: 1, bool: True, float: 1.5}
VALUES: Any = {field.name: PLAIN.get(field.type) for field in msgspec.structs.fields(Turn)}
LINE = Turn(**VALUES | {"plugins": []})


async def write(log, data):
    await asyncio.to_thread(os.write, log.fileno, data)


async def test_lines_are_read_whole_however_they_come():
    data = msgspec.json.encode(LINE) + b"\n"
    async with TurnLog() as log:
        await write(log, data + data[:10])
        assert (await log.turn(1)).request_id == "x"
        assert len(log.turns) == 1
        await write(log, data[10:])
        assert (await log.turn(2)).request_id == "x"


async def test_a_line_that_does_not_come_is_a_timeout(monkeypatch):
    monkeypatch.setattr(module, "WAITED", 0.05)
    async with TurnLog() as log:
        with pytest.raises(TimeoutError):
            await log.turn(1)


async def test_the_turn_is_that_of_the_newest_chat_completion(tmp_path):
    (tmp_path / "dragoman.toml").touch()
    async with Upstream() as upstream:
        flags = {"--upstream": upstream.base_url, "--port": "0", "--admin-port": "0"}
        configuration = await asyncio.to_thread(load, tmp_path / "dragoman.toml", flags, {})
        async with running(configuration) as proxy:
            for model in ("first", "second"):
                await proxy.client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hi"}]
                )
                await proxy.client.models.list()
                assert (await proxy.turn()).model == model
