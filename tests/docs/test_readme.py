"""The README is true: its configurations load, its commands exist, its plugin works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from proxy import discovery
from proxy.errors import ConfigError
from proxy.settings import Settings
from proxy.startup import load
from proxy.telemetry.turns import Turn
from proxy.testing import plugin_test

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
UPSTREAM = {"--upstream": "http://127.0.0.1:9/v1"}


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for name, text in FENCED.findall(README) if name == language]


def test_the_two_commands_stand_at_the_top():
    first = blocks("sh")[0]
    assert re.findall(r"^make \w+", first, re.MULTILINE) == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in ("demo", "test"))


def test_the_configuration_loads(tmp_path):
    (tmp_path / "dragoman.toml").write_text(blocks("toml")[0])
    configuration = load(tmp_path / "dragoman.toml", {}, {})
    assert [chosen.name for chosen in configuration.plugins] == ["sampling"]


def test_the_mistakes_look_as_they_are_shown(tmp_path):
    shown = next(block for block in blocks("") if "did you mean" in block)
    wrong = '[upstream]\nbase_url = "http://x/v1"\n\n[server]\nprot = 1\n' + "\n" * 6
    (tmp_path / "dragoman.toml").write_text(wrong + '[[plugins]]\nuse = "sampler"\n')
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "dragoman.toml", {}, {})
    lines = [problem.removeprefix(f"{tmp_path}/") for problem in error.value.problems]
    assert lines == shown.splitlines()


async def test_the_plugin_works(tmp_path):
    (tmp_path / "polite.py").write_text(blocks("python")[0])
    async with plugin_test(blocks("toml")[1], folder=tmp_path) as test:
        await test.ask("Say hello")
        assert test.sent[0]["messages"][0]["content"] == "Say hello, please"


def test_the_line_of_the_log_has_fields_that_there_are():
    (line,) = blocks("json")
    assert set(re.findall(r'"(\w+)":', line)) <= set(Turn.__struct_fields__)


def test_the_table_has_every_plugin_in_an_order_that_nobody_doubts(tmp_path):
    table = README.partition("| plugin | what it does |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| \[`(\w+)`\]", table, re.MULTILINE)
    own = [each for each in discovery.installed() if each.dist and each.dist.name == "dragoman"]
    assert sorted(named) == sorted(each.name for each in own)
    (tmp_path / "faq.toml").write_text("")
    more = {
        "rate_limit": "[[plugins.limits]]\nname = 'a'\nper = 'caller'\nrequests = 1\n",
        "faq_cache": "file = 'faq.toml'\n",
        "moderation": "[[plugins.lists]]\nname = 'a'\nwords = ['b']\n",
    }
    tables = (f"[[plugins]]\nuse = '{name}'\n{more.get(name, '')}" for name in named)
    (tmp_path / "x.toml").write_text("upstream.base_url = 'http://x/v1'\n" + "".join(tables))
    assert load(tmp_path / "x.toml", {}, {}).warnings == ()


def test_every_page_is_linked():
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages | {"CONTRIBUTING.md"} <= set(re.findall(r"\]\(([^)#]+)\)", README))


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "page", ["README.md", "docs/plugins.md", "docs/operations.md", "SECURITY.md", "CHANGELOG.md"]
)
def test_the_commands_and_settings_that_are_named_exist(page):
    text = (ROOT / page).read_text()
    cli = (ROOT / "proxy" / "cli.py").read_text()
    for verb in re.findall(r"(?:`|bin/)dragoman (\w+)", text):
        assert f'"{verb}"' in cli, verb
    for section, key in re.findall(r"`(upstream|server|telemetry|tokens)\.(\w+)", text):
        table = Settings.model_fields[section].annotation
        assert isinstance(table, type)
        assert issubclass(table, BaseModel)
        assert key in table.model_fields, f"{section}.{key}"


def test_it_is_not_longer_than_a_page_should_be():
    assert len(README.splitlines()) <= 230


def test_what_it_costs_is_what_the_benchmark_has_measured():
    costs = README.partition("<!-- costs -->")[2].partition("<!-- /costs -->")[0]
    measured = (ROOT / "benchmarks" / "results" / "results.md").read_text().splitlines()
    rows = [line for line in costs.splitlines() if line.startswith("|")]
    assert len(rows) > 12
    assert [row for row in rows if row not in measured] == []
