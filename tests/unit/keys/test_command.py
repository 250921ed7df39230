"""What `dragoman keys` is given, and what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy import cli
from proxy.errors import ConfigError
from proxy.keys import command

STORE = '[store]\nurl = "redis://127.0.0.1:1"\nkeys = true\n'


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def done(*arguments, environ=None):
    return command.done(cli._parse(["keys", *arguments]), environ or {})


def problem(*arguments, environ=None):
    with pytest.raises(ConfigError) as error:
        done(*arguments, environ=environ)
    (found,) = error.value.problems
    return found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--name", "two words"), "--name: should be 1 to 64 letters"),
        (("--groups", "free", "a:b"), "--groups: should be names"),
        (("--models", ""), "--models: should be patterns of models"),
        (("--expires", "soon"), "--expires: should be a duration, a day or a time"),
        (("--expires", "90"), "--expires: should be a duration, a day or a time"),
        (("--expires", "0d"), "--expires: 0d is over"),
        (("--expires", "2020-12-31"), "--expires: 2020-12-31 is over"),
    ],
)
def test_what_is_wrong_with_a_new_key_is_told(given, told):
    assert problem("new", *given).startswith(told)


@pytest.mark.parametrize(
    ("given", "days"),
    [("90d", 90), ("24 h", 1), ("9999-12-31", 2_900_000), ("99999999d", 2_900_000)],
)
def test_a_key_ends_after_a_time_or_at_a_day(given, days):
    now = datetime.now(UTC)
    end = command._until(given, now)
    assert end is not None
    assert end - now >= timedelta(days=days)


def test_keys_of_the_configuration_are_taken_out_of_it_by_hand(tmp_path):
    for action in ("revoke", "rotate"):
        assert "take the [[keys]] table of a out" in problem(action, "a")


def test_a_mistake_about_the_store_is_never_an_answer_about_the_configuration(tmp_path):
    for wrong in (
        '[store]\nkeys = "yes"\n',
        "[store]\nkeys = true\n",
        '[store]\nurl = "redis://"\nkeys = true\n',
        "[store]\nkey = true\n",
    ):
        (tmp_path / "dragoman.toml").write_text(wrong)
        assert problem("new").startswith("dragoman.toml:")
    (tmp_path / "dragoman.toml").unlink()
    assert "DRAGOMAN_STORE__KEY" in problem("list", environ={"DRAGOMAN_STORE__KEY": "true"})
    assert problem("list", "-c", "missing.toml").startswith("missing.toml")


def test_a_grace_that_is_no_time_and_a_name_of_the_configuration_are_refused(tmp_path):
    named = f'[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"\n'
    (tmp_path / "dragoman.toml").write_text(STORE + named)
    assert problem("new", "--name", "a") == "a has a key in the configuration"
    assert problem("rotate", "b", "--grace", "soon").startswith("--grace: should be a duration")
