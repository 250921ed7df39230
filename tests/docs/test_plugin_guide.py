"""The plugin guide is true: its programs run, its configuration loads, its names exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from proxy.startup import load

GUIDE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


async def test_its_plugins_do_what_its_tests_say():
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks("python"):
        exec(compile(block, "docs/plugins.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        await test()


def test_its_configuration_loads(tmp_path):
    (tmp_path / "polite.py").write_text(blocks("python")[0])
    (tmp_path / "dragoman.toml").write_text("\n".join(blocks("toml")))
    flags = {"--upstream": "http://127.0.0.1:9/v1"}
    (polite,) = load(tmp_path / "dragoman.toml", flags, {}).plugins
    assert polite.plugin.__name__ == "Polite"
