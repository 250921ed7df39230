"""Plugins are found where the configuration says, and nothing else is imported."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from proxy import registry
from proxy.startup import load
from tests.support.configs import PLUGIN, UPSTREAM, configuration, plugin_file, table_problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.registry import Chosen


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Install a distribution that brings a plugin `acme_<number>`, and return that name."""
    numbers = itertools.count(1)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def install(code: str, *, name: str = "", distribution: str = "") -> str:
        module = f"acme_{next(numbers)}"
        site = tmp_path / f"site-{module}"
        info = site / f"{distribution or module}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(dedent(code))
        metadata = f"Metadata-Version: 2.1\nName: {distribution or module}\nVersion: 1.2\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(
            f"[dragoman.plugins]\n{name or module} = {module}:Shout\n"
        )
        monkeypatch.syspath_prepend(site)
        return name or module

    return install


def running(tables: str) -> tuple[Chosen, ...]:
    """The plugins of these [[plugins]] tables that are to run."""
    return configuration(UPSTREAM + dedent(tables)).plugins


def test_a_plugin_is_found_by_its_entry_point(install: Callable[..., str]) -> None:
    use = install(PLUGIN)
    (chosen,) = running(f'[[plugins]]\nuse = "{use}"\nvolume = 11')
    assert (chosen.name, chosen.plugin.__name__) == (use, "Shout")
    assert chosen.summary() == "volume 11"


def test_a_plugin_is_found_in_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc" / "plugins").mkdir(parents=True)
    plugin_file(name="etc/plugins/mine.py")
    path = Path("etc/config.toml")
    path.write_text(UPSTREAM + '[[plugins]]\nuse = "./plugins/mine.py:Shout"')
    (chosen,) = load(path, {}, {}).plugins
    assert chosen.name == "./plugins/mine.py:Shout"
    assert Path(sys.modules[chosen.plugin.__module__].__file__ or "").samefile(
        "etc/plugins/mine.py"
    )


def test_two_files_of_one_name_are_two_modules_and_one_file_is_one() -> None:
    Path("a").mkdir()
    plugin_file(name="a/json.py")
    plugin_file(name="json.py")
    tables = (
        '[[plugins]]\nuse = "json.py:Shout"\n[[plugins]]\nuse = "./a/json.py:Shout"\n'
        '[[plugins]]\nuse = "./a/../json.py:Shout"'
    )
    one, two, three = (each.plugin for each in running(tables))
    assert one is three
    assert one is not two
    assert sys.modules["json"].__name__ == "json"
    assert "loads" in vars(sys.modules["json"])


def test_only_plugins_that_are_named_are_imported(install: Callable[..., str]) -> None:
    named, other = install(PLUGIN), install("raise SystemExit('I was imported')")
    running(f'[[plugins]]\nuse = "{named}"')
    assert named in sys.modules
    assert other not in sys.modules


def test_an_unknown_plugin_is_told_with_what_is_installed(install: Callable[..., str]) -> None:
    install(PLUGIN, name="whisper")
    names = [each.name for each in registry.installed()]
    assert names == sorted(names)
    assert {"sampling", "whisper"} <= set(names)
    listed = f"(installed: {', '.join(names)})"
    assert table_problems('[[plugins]]\nname = "x"\nuse = "whisperer"\n[[plugins]]\nuse = "x"') == [
        f"3: no plugin named 'whisperer'; did you mean 'whisper'? {listed}",
        f"5: no plugin named 'x' {listed}",
    ]


def test_a_name_that_two_distributions_bring_is_a_mistake(install: Callable[..., str]) -> None:
    install(PLUGIN, name="shout", distribution="good")
    install(PLUGIN, name="shout", distribution="evil")
    (problem,) = table_problems('[[plugins]]\nuse = "shout"')
    assert problem == "2: plugin 'shout' is in evil and good; uninstall all but one of them"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module' ({file}:1)",
        ),
        ("\nraise RuntimeError('no\\nGPU')", "RuntimeError: no GPU ({file}:2)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({file}:1)"),
        ("class (", "SyntaxError: invalid syntax ({file}, line 1)"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_a_mistake(
    install: Callable[..., str], code: str, message: str
) -> None:
    use = install(code)
    plugin_file(code, "broken.py")
    for named, file in ((use, f"{use}.py"), ("broken.py:Shout", "broken.py")):
        expected = f"plugin {named!r} cannot be imported: {message.format(file=file)}"
        assert table_problems(f'[[plugins]]\nuse = "{named}"') == [f"2: {expected}"]


def test_an_entry_point_to_nothing_is_a_mistake(install: Callable[..., str]) -> None:
    use = install("Whisper = 1")
    (problem,) = table_problems(f'[[plugins]]\nuse = "{use}"')
    assert "AttributeError: module 'acme_1' has no attribute 'Shout'" in problem


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Shout = 1", "'mine.py:Shout' is no class derived from proxy.plugin.Plugin"),
        ("class Shout: pass", "'mine.py:Shout' is no class derived from proxy.plugin.Plugin"),
        ("class Shot: pass", "mine.py has no class 'Shout'; did you mean 'Shot'?"),
        (
            """
            from proxy.plugin import Plugin
            class Shout(Plugin):
                class Config: pass
            """,
            "the Config of 'mine.py:Shout' is not derived from proxy.plugin.Options",
        ),
        (
            """
            from proxy.plugin import Options, Plugin
            class Shout(Plugin):
                class Config(Options):
                    mode: str
            """,
            "the Config of 'mine.py:Shout' has 'mode', a key of every [[plugins]] table",
        ),
    ],
)
def test_what_is_no_plugin_is_a_mistake(code: str, message: str) -> None:
    path = Path("mine.py")
    path.write_text(dedent(code))
    (problem,) = table_problems('[[plugins]]\n# comment\nuse = "mine.py:Shout"')
    assert problem.partition(": ")[2] == message


def test_a_file_must_exist_and_name_a_class() -> None:
    tables = '[[plugins]]\nuse = "./none.py:Shout"\n[[plugins]]\nuse = "./none.py"'
    assert table_problems(tables) == [
        "2: there is no file none.py",
        '4: use = "none.py:Class" must say which class',
    ]


def test_installed_plugins_are_listed_with_their_origin_and_positions(
    install: Callable[..., str],
) -> None:
    use, broken, bare = (
        install(PLUGIN),
        install("import no_such_module"),
        install("from proxy.plugin import Plugin\nclass Shout(Plugin): pass"),
    )
    table = f'[[plugins]]\nuse = "{use}"\nname = '
    chosen = running(table + '"a"\n' + table + '"b"')
    listed = {each.name: each for each in registry.installed(chosen)}
    shout = listed[use]
    assert (shout.distribution, shout.version, shout.positions) == (use, "1.2", (1, 2))
    assert shout.description == "Says it louder."
    assert listed[bare].description == ""
    assert listed[bare].positions == ()
    assert "No module named 'no_such_module'" in listed[broken].description
