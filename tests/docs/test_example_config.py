"""`config.example.toml` shows every key there is, with the default that the code has."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from proxy import discovery
from proxy.fields import keys, types_at
from proxy.registry import COMMON, Table
from proxy.settings import Settings
from proxy.startup import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.plugin import Plugin

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
TEXT = EXAMPLE.read_text()
DISABLED = re.compile(r"^#(?=[a-z\[])", re.MULTILINE)
"""What makes a key a comment.  Prose has a space behind its #."""

SHIPPED = [
    point.name
    for point in entry_points(group=discovery.GROUP)
    if discovery.distribution(point)[0] == "dragoman"
]

Shown = dict[type[BaseModel], set[str]]
"""The keys that the example shows of each model."""


def everything() -> dict[str, Any]:
    """The example with no key commented out."""
    return tomllib.loads(DISABLED.sub("", TEXT))


def table_of(use: str) -> dict[str, Any]:
    (table,) = (table for table in everything()["plugins"] if table["use"] == use)
    return dict(table)


def plugin_of(use: str) -> type[Plugin[Any]]:
    return discovery.find(use, Path())


def compare(model: type[BaseModel], table: dict[str, Any], shown: Shown) -> None:
    """Note what a table shows of a model; fail where it shows another default than the model's.

    Where a model has no default, or nothing as default, the example shows what could stand there.
    """
    values = model.model_validate(table)
    for key, field in keys(model):
        if key not in table:
            continue
        shown[model].add(key)
        inner = [kind for kind in types_at(model, (key,)) if issubclass(kind, BaseModel)]
        if inner:
            given = table[key]
            for each in given if isinstance(given, list) else [given]:
                compare(inner[0], each, shown)
        elif not field.is_required() and field.default not in (None, (), {}):
            assert getattr(values, key) == field.default, f"{model.__name__}.{key}"


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for key, _ in keys(model):
        for kind in types_at(model, (key,)):
            if issubclass(kind, BaseModel):
                yield from models_in(kind)


def assert_complete(model: type[BaseModel], shown: Shown) -> None:
    for each in models_in(model):
        assert shown[each] == {key for key, _ in keys(each)}, each.__name__


def test_the_example_is_valid_as_it_stands() -> None:
    configuration = load(EXAMPLE, {}, {})
    default = Settings.model_validate({"upstream": {"base_url": "https://api.openai.com/v1"}})
    assert configuration.settings == default
    assert configuration.plugins == ()
    assert configuration.warnings == ()


def test_the_example_is_valid_with_every_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(DISABLED.sub("", TEXT))
    code = "from proxy.plugin import Plugin\nclass MyPlugin(Plugin): pass"
    (tmp_path / "my_plugin.py").write_text(code)
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', TEXT), "x" * 16)
    used = [each.table.use for each in load(path, {}, environ).plugins]
    assert sorted(used) == sorted(["./my_plugin.py:MyPlugin", *SHIPPED])


def test_every_setting_is_shown_with_its_default() -> None:
    shown: Shown = defaultdict(set)
    compare(Settings, everything(), shown)
    assert_complete(Settings, shown)


def test_the_keys_of_every_plugin_are_shown_with_their_defaults() -> None:
    shown: Shown = defaultdict(set)
    compare(Table, table_of("./my_plugin.py:MyPlugin"), shown)
    assert_complete(Table, shown)


@pytest.mark.parametrize("use", SHIPPED)
def test_every_option_of_a_plugin_is_shown_with_its_default(use: str) -> None:
    shown: Shown = defaultdict(set)
    own = {key: value for key, value in table_of(use).items() if key not in COMMON}
    compare(plugin_of(use).Config, own, shown)
    assert_complete(plugin_of(use).Config, shown)


@pytest.mark.parametrize("use", SHIPPED)
def test_keys_of_every_plugin_are_repeated_only_where_a_plugin_has_another_default(
    use: str,
) -> None:
    plugin, table = plugin_of(use), table_of(use)
    common = Table(use=use).model_dump() | {"timeout": plugin.timeout, "on_error": plugin.on_error}
    repeated = {key: value for key, value in table.items() if key in COMMON and key != "use"}
    assert Table(use=use, **repeated).model_dump() == common
    assert all(key in ("timeout", "on_error") for key in repeated)


def test_every_key_has_a_sentence() -> None:
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?(\[|[a-z].* = )", line):
            above = next(each for each in reversed(lines[:number]) if not DISABLED.match(each))
            assert above.startswith("# "), line
