"""Old clients are served as the newest is: others still pin openai 2."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.support import smoke

OLD = Path(__file__).parents[2] / ".venv" / "openai-2"
"""Packages that `make test` puts there."""


@pytest.mark.parametrize(
    ("packages", "major"),
    [
        ("", "3"),
        pytest.param(
            str(OLD),
            "2",
            marks=pytest.mark.skipif(not OLD.is_dir(), reason="openai 2 is not there: make test"),
        ),
    ],
)
async def test_a_client_in_a_process_of_its_own_is_served(both, packages, major):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        smoke.__file__,
        both.through,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": packages},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    assert said.decode().startswith(f"openai {major}.")
