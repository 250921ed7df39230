"""The tables of words and characters that decide what two questions have in common."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

_DATA = files(__package__) / "data"


def toml(name: str) -> dict[str, Any]:
    """A table of the folder `data`."""
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))
