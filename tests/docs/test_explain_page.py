"""The page on `dragoman explain` is true: its example prints what it shows, its keys are all there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from proxy import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "explain.md").read_text()
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language, page=PAGE):
    return [text for name, text in FENCED.findall(page) if name == language]


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("polite.py").write_text(blocks("python", (DOCS / "plugins.md").read_text())[0])
    Path("dragoman.toml").write_text(blocks("toml")[0])
    Path("request.json").write_text(blocks("json")[0])

    def run(*arguments):
        assert cli.main(["explain", "request.json", *arguments]) == 0
        return capsys.readouterr().out

    return run


def test_the_example_prints_what_is_shown(printed):
    assert printed() == blocks("")[0]


def test_every_key_of_the_document_is_on_the_page(printed):
    keys = set()

    def collect(value):
        if isinstance(value, dict):
            keys.update(value)
            value = value.values()
        if isinstance(value, (list, type({}.values()))):
            for each in value:
                collect(each)

    document = json.loads(printed("--json"))
    for plugin in document["plugins"]:
        plugin["notes"], plugin["messages"] = (
            {},
            [
                {**change, "message": None, "before": None, "after": None}
                for change in plugin["messages"]
            ],
        )
    collect(document)
    described = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## The document") :]))
    assert keys <= described


def test_its_options_exist(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "--help"])
    usage = capsys.readouterr().out
    for option in re.findall(r"(?<![\w`-])(--?[a-zA-Z][a-z-]*)(?![\w-])", "".join(blocks("sh"))):
        assert option in usage
    assert "--no-color" in usage
