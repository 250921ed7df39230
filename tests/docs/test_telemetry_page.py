"""The page on telemetry names everything that is told, and nothing that is not."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

import proxy.telemetry
from proxy.settings import Telemetry
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.turns import PluginTurn, Turn

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
SOURCES = Path(proxy.telemetry.__file__).parent


def test_every_metric_is_on_the_page_and_the_other_way_round():
    names = {family.name for family in Metrics("openai").registry.collect()}
    table = PAGE[PAGE.index("## Metrics") : PAGE.index("Labels never grow")]
    told = set(re.findall(r"`((?:http|gen_ai|dragoman)_\w+)`", table))
    assert told == names


def test_every_field_of_the_turn_log_is_on_the_page():
    section = PAGE[PAGE.index("## The turn log") :]
    fields = {f.name for kind in (Turn, PluginTurn) for f in msgspec.structs.fields(kind)}
    assert fields <= set(re.findall(r"`(\w+)`", section))


def test_every_attribute_is_on_the_page():
    code = "".join((SOURCES / f).read_text() for f in ("attributes.py", "conventions.py"))
    written = set(re.findall(r'"((?:gen_ai|openai|dragoman)\.[a-z_.]+[a-z])"', code))
    assert len(written) > 20
    for name in written:
        shortened = "." + name.split(".", 2)[-1]
        assert f"`{name}`" in PAGE or f"`{shortened}`" in PAGE, name


def test_the_settings_it_speaks_of_exist():
    for name in re.findall(r"`telemetry\.(\w+)", PAGE):
        assert name in Telemetry.model_fields, name
