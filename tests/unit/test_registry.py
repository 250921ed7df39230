"""The `[[plugins]]` tables are checked, and become the layers of the onion in their order."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from proxy import registry
from proxy.plugin import Options, Plugin
from proxy.registry import Chosen, Table, build_layers
from tests.support.configs import PLUGIN, UPSTREAM, configuration, plugin_file, table_problems
from tests.support.requests import chat_request

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.wire import ChatRequest


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def running(tables: str) -> tuple[Chosen, ...]:
    """The plugins of these [[plugins]] tables that are to run."""
    return configuration(UPSTREAM + dedent(tables)).plugins


def test_mistakes_in_a_table_are_told_with_their_lines() -> None:
    plugin_file()
    tables = """\
        [[plugins]]
        use = "mine.py:Shout"
        volume = "loud"
        volum = 1
        timeuot = 1
        timeout = "1 week"
        on_error = "ajar"
        mode = "off"
        enabled = "never"

        [[plugins]]
        timeout = -1

        [[plugins]]
        use = "mine.py:Shout"
        name = "b"
        [plugins.match]
        models = "gpt-*"
        model = ["gpt-*"]
        callers = [
          "alice",
          7,
        ]
        paths = []
        """
    assert table_problems(tables) == [
        "3: volume: should be a whole number, not 'loud'",
        "4: unknown key 'volum'; did you mean 'volume'?",
        "5: unknown key 'timeuot'; did you mean 'timeout'?",
        "6: timeout: write a number and a unit (ms, s, min, m, h, d), such as '30 s', not '1 week'",
        "7: on_error: should be 'open' or 'closed', not 'ajar'",
        "8: mode: should be 'apply' or 'shadow', not 'off'",
        "9: enabled: should be true or false, not 'never'",
        "11: use: is required",
        "12: timeout: should be at least 0, not -1",
        "18: match.models: should be an array, not 'gpt-*'",
        "19: unknown key 'model'; did you mean 'models'?",
        "22: match.callers[1]: should be a text, not 7",
        "24: match.paths: should have at least 1 item",
    ]


def test_options_in_nested_models_and_unions_are_told_by_their_place_in_the_file() -> None:
    plugin_file("""
        from typing import Annotated, Literal
        from pydantic import BaseModel, Field, model_validator
        from proxy.plugin import Options, Plugin

        class Local(Options):
            kind: Literal["local"]
            model: str
        class Remote(Options):
            kind: Literal["remote"]
            url: str
        class ShoutOptions(BaseModel):
            judge: Annotated[Local | Remote, Field(discriminator="kind")]
            words: int | list[str] = Field(1, alias="wordz")
            scenes: dict[str, Local] = {}
            @model_validator(mode="after")
            def _fits(self):
                raise ValueError("words\\nand scenes do not fit")
        class Shout(Plugin[ShoutOptions]):
            Config = ShoutOptions
        """)
    tables = """\
        [[plugins]]
        use = "mine.py:Shout"
        judge = { kind = "remote", ulr = "x" }
        wordz = "three"
        words = 3
        [plugins.scenes."a b"]
        kind = "locale"
        [[plugins]]
        use = "mine.py:Shout"
        name = "b"
        judge.kind = "loca"
        judje = 1
        model = "x"
        [[plugins]]
        use = "mine.py:Shout"
        name = "c"
        judge = { kind = "local", model = "x" }
        """
    assert table_problems(tables) == [
        "3: unknown key 'ulr'; did you mean 'url'?",
        "3: judge.url: is required",
        "4: wordz: should be a whole number or should be an array, not 'three'",
        "5: unknown key 'words'; did you mean 'wordz'?",
        "6: scenes.a b.model: is required",
        "7: scenes.a b.kind: should be 'local', not 'locale'",
        "11: judge: kind should be 'local', 'remote', not 'loca'",
        "12: unknown key 'judje'; did you mean 'judge'?",
        "13: unknown key 'model'; it belongs in [plugins.judge]",
        "14: words and scenes do not fit",
    ]


def test_a_disabled_table_is_checked_and_does_not_run() -> None:
    plugin_file()
    table = '[[plugins]]\nuse = "mine.py:Shout"\nenabled = false\n'
    assert running(table) == ()
    assert table_problems(table + "volume = []") == ["4: volume: should be a whole number"]


def test_names_are_distinct() -> None:
    plugin_file()
    table = '[[plugins]]\nuse = "mine.py:Shout"\n'
    assert table_problems(table + table + table + 'name = "b"\n') == [
        "3: another plugin is named 'mine.py:Shout'; give one of them a name of its own: name = ..."
    ]
    assert len(running(table + table + 'name = "b"')) == 2


def test_no_mistake_shows_a_secret_of_a_plugin() -> None:
    plugin_file(
        PLUGIN
        + """
        @classmethod
        def careless(cls, value):
            raise ValueError(f"{value} is wrong")

    from pydantic import field_validator
    class CarelessOptions(ShoutOptions):
        label: str = ""
        _check = field_validator("token", "label", mode="before")(Shout.careless)
    class Careless(Shout):
        Config = CarelessOptions
    """
    )
    found = table_problems(
        """\
        [[plugins]]
        use = "mine.py:Shout"
        token = ["hunter2"]
        volume = "env:SECRET"
        [[plugins]]
        use = "mine.py:Careless"
        token = "hunter2-hunter2"
        label = "env:SECRET"
        """,
        {"SECRET": "swordfish"},
    )
    assert [line.partition(":")[0] for line in found] == ["3", "4", "7", "8"]
    assert not any(secret in "".join(found) for secret in ("hunter2", "swordfish"))


# ---- layers


def layers(tables: str) -> tuple[Any, ...]:
    """The layers of these tables; the services of a plugin are a word here, made of its name."""
    return build_layers(running(tables), lambda name: f"of {name}")  # type: ignore[arg-type,return-value]


def test_layers_are_in_the_order_of_the_tables_with_their_own_services_and_options() -> None:
    plugin_file()
    outer, inner = layers("""
        [[plugins]]
        use = "mine.py:Shout"
        name = "outer"
        volume = 2
        [[plugins]]
        use = "mine.py:Shout"
        name = "off"
        enabled = false
        [[plugins]]
        use = "mine.py:Shout"
        name = "inner"
        """)
    assert (outer.name, inner.name) == ("outer", "inner")
    assert (outer.plugin.services, inner.plugin.services) == ("of outer", "of inner")
    assert (outer.plugin.config.volume, inner.plugin.config.volume) == (2, 1)


def test_the_class_says_what_the_table_does_not() -> None:
    plugin_file()
    (quiet,) = layers('[[plugins]]\nuse = "mine.py:Shout"')
    assert (quiet.timeout, quiet.on_error, quiet.shadow, quiet.matches) == (
        2.5,
        "open",
        False,
        None,
    )
    (told,) = layers("""
        [[plugins]]
        use = "mine.py:Shout"
        timeout = 0
        on_error = "closed"
        mode = "shadow"
        """)
    assert (told.timeout, told.on_error, told.shadow) == (None, "closed", True)


def request(
    model: str = "gpt-4o", caller: str | None = None, path: str = "/v1/chat/completions"
) -> ChatRequest:
    made = chat_request(model=model, caller=caller)
    made.exchange.path = path
    return made


@pytest.mark.parametrize(
    ("match", "seen", "unseen"),
    [
        ('models = ["gpt-4o"]', request(), request("gpt-4o-mini")),
        ('models = ["o?", "gpt-*-mini"]', request("gpt-4o-mini"), request("gpt-4o")),
        ('models = ["o?", "gpt-*-mini"]', request("o3"), request("o3x")),
        ('models = ["GPT-*"]', request("GPT-4"), request("gpt-4")),
        ('models = ["a.c"]', request("a.c"), request("abc")),
        ('callers = ["al*"]', request(caller="alice"), request()),
        ('callers = ["anonymous"]', request(), request(caller="alice")),
        ('paths = ["*/chat/*"]', request(), request(path="/v1/messages")),
        ('models = ["gpt*"]\ncallers = ["a"]', request(caller="a"), request("o3", caller="a")),
        ('models = ["gpt*"]\ncallers = ["a"]', request(caller="a"), request(caller="b")),
    ],
)
def test_match_restricts_what_a_plugin_sees(
    match: str, seen: ChatRequest, unseen: ChatRequest
) -> None:
    plugin_file()
    (layer,) = layers(f'[[plugins]]\nuse = "mine.py:Shout"\n[plugins.match]\n{match}')
    assert layer.matches(seen)
    assert not layer.matches(unseen)


@pytest.mark.parametrize(
    ("order", "doubts"),
    [
        ("rate_limit moderation faq_cache sessions compression", {}),
        ("rate_limit faq_cache moderation", {}),
        ("faq_cache sampling", {}),
        (
            "sampling faq_cache rate_limit moderation",
            {1: "faq_cache is outside rate_limit and moderation: what it answers passes them by"},
        ),
        (
            "faq_cache rate_limit",
            {0: "faq_cache is outside rate_limit: what it answers passes them by"},
        ),
        (
            "compression moderation sessions",
            {
                1: "moderation is inside compression: it judges what was shortened",
                2: "sessions is inside compression: it sees what was shortened",
            },
        ),
    ],
)
def test_doubtful_orders_are_warned_of(order: str, doubts: dict[int, str]) -> None:
    chosen = [
        Chosen(Plugin, Options(), Table(use=use), ("plugins", index))
        for index, use in enumerate(order.split())
    ]
    expected = {("plugins", index): doubt for index, doubt in doubts.items()}
    assert dict(registry.doubtful_order(chosen)) == expected
