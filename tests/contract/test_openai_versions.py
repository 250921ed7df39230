"""Old clients are served as the newest is: others still pin openai 2."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.support import smoke

OLD = os.environ.get("OPENAI_2_PYTHON", "")


@pytest.mark.parametrize(
    ("interpreter", "major"),
    [
        (sys.executable, "3"),
        pytest.param(
            OLD,
            "2",
            marks=pytest.mark.skipif(
                not OLD, reason="OPENAI_2_PYTHON names no interpreter that has openai 2"
            ),
        ),
    ],
)
async def test_a_client_in_a_process_of_its_own_is_served(both, interpreter, major):
    process = await asyncio.create_subprocess_exec(
        interpreter,
        smoke.__file__,
        both.through,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    assert said.decode().startswith(f"openai {major}.")
