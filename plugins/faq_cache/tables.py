"""The tables of words and characters that decide what two questions have in common."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

_DATA = files(__package__) / "data"


def toml(name: str) -> dict[str, Any]:
    """A table of the folder `data`."""
    return tomllib.loads((_DATA / name).read_text(encoding="utf-8"))


def simplified() -> dict[int, str]:
    """Traditional characters and what they are in simplified Chinese, for str.translate()."""
    lines = (_DATA / "simplified.txt").read_text(encoding="utf-8").splitlines()
    pairs = (pair for line in lines if not line.startswith("#") for pair in line.split())
    return {ord(pair[0]): pair[1] for pair in pairs}
