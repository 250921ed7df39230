"""Plugins for tests: written to a file, and used from there as an operator's own would be."""

from __future__ import annotations

from itertools import count
from textwrap import dedent, indent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_numbers = count(1)

told: list[object] = []
"""What plugins of the running test have to say: each plugin's file imports it."""

_IMPORTS = """\
import asyncio
import time

from proxy.plugin import *
from tests.support.plugins import told

"""


def plugin(folder: Path, handle: str, *, options: str = "", name: str = "unlucky") -> str:
    """The `[[plugins]]` table of a plugin whose handle() has this body.

    A body that begins with `class It(` is the whole plugin, named `It`.
    """
    told.clear()
    code = dedent(handle)
    if not code.lstrip().startswith("class It("):
        code = "class It(Plugin):\n    async def handle(self, request, call_next):\n" + indent(
            code.strip("\n"), " " * 8
        )
    path = folder / f"plugin_{next(_numbers)}.py"
    path.write_text(_IMPORTS + code)
    table = f'[[plugins]]\nuse = "./{path.name}:It"\nname = "{name}"\n'
    return table + dedent(options).strip() + "\n"
