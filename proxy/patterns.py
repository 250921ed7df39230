"""Names, and the patterns with `*`, `?` and `[...]` that they may fit."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Does the name, as it is spelled, fit one of the patterns?"""
    return bool(patterns) and _matcher(patterns)(name) is not None


# fnmatch remembers 256 patterns, and a table of keys may hold more.
@lru_cache(4_096)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(map(translate, patterns))).match
