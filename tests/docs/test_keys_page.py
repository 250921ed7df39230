"""The page on keys is true: its configurations load, its commands and names exist."""

from __future__ import annotations

import re
from pathlib import Path

from proxy import cli
from proxy.access import _BY_BODY
from proxy.keys.snapshot import REFRESH
from proxy.keys.table import PREFIX, USE_DAYS
from proxy.settings import Key
from proxy.startup import load

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
UPSTREAM = '[upstream]\nbase_url = "http://127.0.0.1:1"\napi_key = "x"\n'


def test_its_configurations_load(tmp_path):
    tables = [text for language, text in BLOCKS if language == "toml"]
    (tmp_path / "dragoman.toml").write_text(UPSTREAM + "\n".join(tables))
    settings = load(tmp_path / "dragoman.toml", {}, {"REDIS_URL": "redis://127.0.0.1:1"}).settings
    assert settings.store.keys
    assert set(settings.keys[0].model_fields_set) == set(Key.model_fields)


def test_its_commands_exist():
    commands = [text for language, text in BLOCKS if language == "sh"]
    commands += re.findall(r"^\| `(dragoman keys .*?)` \|", PAGE, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        cli._parse([word.strip("'") for word in command.split()[1:]])


def test_what_it_names_is_so_named():
    told = PAGE.partition("Of other endpoints")[2].partition("All else")[0]
    assert {f"/v1{path}" for path in re.findall(r"`(/[\w/]+)`", told)} == _BY_BODY
    assert f"looks for news every {REFRESH:g} s" in PAGE
    assert f"`{PREFIX}table`" in PAGE
    assert f"after {USE_DAYS} days" in PAGE
