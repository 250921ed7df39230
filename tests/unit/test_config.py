"""What stands above what: flags, variables, the file; and what settings must not say together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy import config
from tests.support.configs import HASH, UPSTREAM, configuration, problems

if TYPE_CHECKING:
    from proxy.settings import Settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(
    text: str | None = None, environ: dict[str, str] | None = None, **flags: str
) -> Settings:
    return configuration(text, environ, **flags).settings


def test_a_configuration_without_a_file_needs_an_upstream_only() -> None:
    assert str(settings(upstream="http://127.0.0.1:1/v1").upstream.base_url).startswith("http://")
    (problem,) = problems()
    assert problem == (
        "no upstream: run with --upstream https://api.openai.com/v1, or write "
        'base_url = "https://api.openai.com/v1" under [upstream] in dragoman.toml'
    )


def test_flags_stand_above_the_environment_and_that_above_the_file() -> None:
    text = UPSTREAM + "[server]\nport = 1111\nadmin_port = 2222\ndrain = 5"
    environ = {"DRAGOMAN_SERVER__PORT": "3333", "DRAGOMAN_SERVER__ADMIN_PORT": "4444"}
    server = settings(text, environ, port="5555").server
    assert (server.port, server.admin_port, server.drain, server.grace) == (5555, 4444, 5, 0)


def test_variables_are_texts_where_the_setting_is_and_toml_elsewhere() -> None:
    found = settings(
        environ={
            "DRAGOMAN_UPSTREAM__BASE_URL": "http://127.0.0.1:1/v1",
            "DRAGOMAN_UPSTREAM__API_KEY": "12345",
            "DRAGOMAN_UPSTREAM__PROVIDER": "true",
            "DRAGOMAN_SERVER__DRAIN": "2 min",
            "DRAGOMAN_SERVER__GRACE": "1.5",
            "DRAGOMAN_SERVER__MAX_BODY": "1_000",
            "DRAGOMAN_TELEMETRY__SEMCONV": "1.41",
            "DRAGOMAN_TELEMETRY__TURN_LOG": "false",
            "DRAGOMAN_TELEMETRY__TAIL_SAMPLE__RATIO": "0.25",
            "DRAGOMAN_TOKENS__ENCODINGS": '{ "a.b" = "cl100k_base" }',
            "DRAGOMAN_KEYS": f'[{{ name = "a", sha256 = "{HASH}" }}]',
        }
    )
    assert found.upstream.api_key is not None
    assert found.upstream.api_key.get_secret_value() == "12345"
    assert found.upstream.provider == "true"
    assert (found.server.drain, found.server.grace, found.server.max_body) == (120, 1.5, 1000)
    assert (found.telemetry.turn_log, found.telemetry.tail_sample.ratio) == (False, 0.25)
    assert found.tokens.encodings == {"a.b": "cl100k_base"}
    assert [key.name for key in found.keys] == ["a"]


def test_mistakes_in_the_environment_and_in_flags_name_the_variable_or_the_flag() -> None:
    environ = {
        "DRAGOMAN_SERVER__DRAIN": "soon",
        "DRAGOMAN_SERVER__HOST": " ",
        "DRAGOMAN_SERVER_PORT": "1",
        "DRAGOMAN_KEYS": '[{ name = "a" }]',
        "DRAGOMAN_VERBOSE": "1",
    }
    found = problems(UPSTREAM + "[server]\nport = 1", environ, port="x", log_level="loud")
    units = "ms, s, min, m, h, d"
    assert set(found) == {
        "unknown variable DRAGOMAN_SERVER_PORT; did you mean DRAGOMAN_SERVER__PORT?",
        "unknown variable DRAGOMAN_VERBOSE",
        "DRAGOMAN_SERVER__HOST: is empty; unset it, or give it a value",
        f"DRAGOMAN_SERVER__DRAIN: write a number and a unit ({units}), such as '30 s', not 'soon'",
        "DRAGOMAN_KEYS: [0].sha256: is required",
        "--port: should be a whole number, not 'x'",
        "--log-level: should be 'debug', 'info', 'warning' or 'error', not 'loud'",
    }


def test_a_variable_does_not_mend_a_section_that_is_no_table() -> None:
    environ = {"DRAGOMAN_SERVER__PORT": "9000"}
    assert problems("server = 1\n" + UPSTREAM, environ) == [
        "config.toml:1: server: should be a table, not 1"
    ]


def test_variables_that_kubernetes_sets_are_no_mistakes() -> None:
    links = {
        "DRAGOMAN_SERVICE_HOST": "10.0.0.11",
        "DRAGOMAN_SERVICE_PORT": "8080",
        "DRAGOMAN_SERVICE_PORT_HTTP": "8080",
        "DRAGOMAN_PORT": "tcp://10.0.0.11:8080",
        "DRAGOMAN_PORT_8080_TCP": "tcp://10.0.0.11:8080",
        "DRAGOMAN_PORT_8080_TCP_PROTO": "tcp",
        "DRAGOMAN_PORT_8080_TCP_PORT": "8080",
        "DRAGOMAN_PORT_8080_TCP_ADDR": "10.0.0.11",
        "DRAGOMAN_ADMIN_SERVICE_HOST": "10.0.0.12",
        "DRAGOMAN_ADMIN_PORT": "tcp://10.0.0.12:8081",
    }
    assert settings(UPSTREAM, links).server.port == 8080
    assert problems(UPSTREAM, {"DRAGOMAN_PORT": "9000"})


def test_env_texts_are_replaced_wherever_they_stand() -> None:
    text = """
        [upstream]
        base_url = "env:URL"
        api_key = "env:KEY"
        [server]
        port = "env:PORT"
        [tokens]
        encodings = { mine = "env:ENCODING" }
        [telemetry]
        service_name = "env: no variable"
        [[keys]]
        name = "env:NAME"
        sha256 = "env:HASH"
    """
    environ = {
        "URL": "http://127.0.0.1:1/v1",
        "KEY": "abc",
        "PORT": "9000",
        "ENCODING": "o200k_base",
        "NAME": "alice",
        "HASH": HASH,
    }
    found = settings(text, environ)
    assert found.upstream.base_url.port == 1
    assert found.upstream.api_key is not None
    assert found.upstream.api_key.get_secret_value() == "abc"
    assert found.server.port == 9000
    assert found.tokens.encodings == {"mine": "o200k_base"}
    assert found.telemetry.service_name == "env: no variable"
    assert (found.keys[0].name, found.keys[0].sha256) == ("alice", HASH)


def test_env_texts_of_variables_that_are_unset_or_empty_name_key_and_variable() -> None:
    text = """\
[upstream]
base_url = "http://127.0.0.1:1"
api_key = "env:BLANK"
[tokens]
encodings = { mine = "env:" }
[[plugins]]
use = "sampling"
enabled = false
options = [1, { token = "env:UNSET" }]
"""
    found = problems(text, {"BLANK": " \n"})
    assert {
        "config.toml:3: upstream.api_key: the environment variable 'BLANK' is empty",
        "config.toml:5: tokens.encodings.mine: the environment variable '' is not set",
        "config.toml:9: options[1].token: the environment variable 'UNSET' is not set",
    } <= set(found)


SECRET = "hunter2-hunter2"


def test_other_machines_may_spend_the_upstreams_key_if_they_bring_one_or_it_is_allowed() -> None:
    text = UPSTREAM + 'api_key = "x"\n[server]\nhost = "0.0.0.0"\n'
    assert settings(text + "allow_anonymous = true").server.allow_anonymous
    assert settings(text + f'[[keys]]\nname = "a"\nsha256 = "{HASH}"').keys
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert settings(text.replace("0.0.0.0", host)).server.host == host
    for host in ("::", "192.168.0.1", "proxy.example"):
        assert problems(text.replace("0.0.0.0", host))


def test_two_listeners_may_have_one_port_on_two_addresses_and_both_any_port() -> None:
    assert settings(UPSTREAM, port="0", admin_port="0").server.port == 0
    text = UPSTREAM + '[server]\nadmin_host = "127.0.0.2"\nport = 8081'
    assert settings(text).server.port == 8081
    assert problems(UPSTREAM, port="8081") == [
        "--port: 8081 is server.admin_port, too; choose another"
    ]


def test_grpc_needs_its_extra() -> None:
    assert problems(UPSTREAM + '[telemetry]\nprotocol = "grpc"') == [
        "config.toml:4: telemetry.protocol: pip install 'dragoman[grpc]' brings gRPC"
    ]


def test_the_file_is_the_one_given_else_the_one_named_else_the_one_that_is_there() -> None:
    named = {"DRAGOMAN_CONFIG": "named.toml"}
    assert config.find(None, {}) is None
    Path("dragoman.toml").touch()
    assert config.find(None, {}) == Path("dragoman.toml")
    assert config.find(None, named) == Path("named.toml")
    assert config.find(Path("given.toml"), named) == Path("given.toml")


def test_settings_cannot_be_changed_and_do_not_show_their_secrets() -> None:
    found = settings(UPSTREAM + f'api_key = "{SECRET}"')
    with pytest.raises(ValueError, match="frozen"):
        found.server.port = 1
    assert SECRET not in repr(found)


def test_keys_of_the_store_need_one_that_is_shared_and_stand_for_those_of_the_file() -> None:
    text = UPSTREAM + 'api_key = "x"\n[server]\nhost = "0.0.0.0"\n[store]\nkeys = true\n'
    assert settings(text + 'url = "redis://127.0.0.1"').store.keys
    assert problems(text) == [
        "config.toml:7: store.keys: needs a store that is shared: a Redis as store.url"
    ]
    (problem,) = problems(UPSTREAM + '[store]\nkeys = true\nurl = "redis://127.0.0.1"')
    assert "upstream.api_key: without it, clients' keys of the store would go" in problem
