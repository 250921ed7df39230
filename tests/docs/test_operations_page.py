"""The page on operations names the settings that need a restart, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from proxy.fields import keys, types_at
from proxy.serving import workers
from proxy.serving.reload import FOR_A_START
from proxy.serving.server import RETIRE_SECONDS
from proxy.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_what_needs_a_restart_is_on_the_page_and_the_other_way_round():
    told: set[str] = set()
    for sections, what in re.findall(r"^\| (`\[\w+\]`.*?) \| (.*) \|$", PAGE, re.MULTILINE):
        for section in re.findall(r"\w+", sections):
            (model,) = types_at(Settings, (section,))
            assert issubclass(model, BaseModel)
            names = re.findall(r"`(\w+)`", what) or [key for key, _ in keys(model)]
            told |= {f"{section}.{name}" for name in names}
    assert told == FOR_A_START


def test_the_times_are_those_of_the_code():
    assert workers.FIRST_PAUSE == 1
    assert workers.LONGEST_PAUSE == 30
    assert workers.CALM == 60
    assert RETIRE_SECONDS == 600
