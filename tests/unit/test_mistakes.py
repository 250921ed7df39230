"""All mistakes of a configuration are told at once, each with its place, and none with a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import config, rules
from proxy.document import Document
from proxy.mistakes import Mistakes
from tests.support.configs import HASH, UPSTREAM, problems

if TYPE_CHECKING:
    from pathlib import Path

# Each text ends with what is wrong with it: after `#!`, line by line, in the order of the report.
MISTAKES = {
    "the line of each of many mistakes": """\
        # a comment
        [server]
        prot = 8080

        [upstream]  # another
        base_url = "api.openai.com/v1"
        "retrys" = 1

        [telemetry]
        semconv = 1.41
        [tokens]
        verify = 2
        #! 3: unknown key 'prot'; did you mean 'port'?
        #! 6: upstream.base_url: should be a valid URL, relative URL without a base, \
not 'api.openai.com/v1'
        #! 7: unknown key 'retrys'; did you mean 'retries'?
        #! 10: telemetry.semconv: should be '1.41' or 'next', not 1.41
        #! 12: tokens.verify: should be at most 1, not 2
        """,
    "keys in the wrong table, and tables that do not exist": """\
        base_url = "http://127.0.0.1"
        upstream.base_url = "http://127.0.0.1"
        [server]
        sha256 = 1
        [sevrer]
        port = 1
        [cache]
        #! 1: unknown key 'base_url'; it belongs in [upstream]
        #! 4: unknown key 'sha256'; it belongs in [[keys]]
        #! 5: unknown key 'sevrer'; did you mean 'server'?
        #! 7: unknown key 'cache'; known are keys, plugins, server, store, telemetry, tokens, upstream
        """,
    "inline tables, dotted keys and arrays of tables": f"""\
        upstream = {{ api_key = "x", base_url = "http://127.0.0.1", retries = -1 }}
        telemetry.tail_sample = {{ errors = true, ratoi = 0.1 }}
        server.drain.seconds = 5
        [[keys]]
        name = "a"
        sha256 = "{HASH}"
        [[keys]]
        sha256 = 5
        [[keys]]
        name = "c"
        sha256 = "{HASH[::-1]}"
        colour = "red"
        #! 1: upstream.retries: should be at least 0, not -1
        #! 2: unknown key 'ratoi'; did you mean 'ratio'?
        #! 3: server.drain: should be a valid number
        #! 7: name: is required
        #! 8: sha256: should be a text, not 5
        #! 12: unknown key 'colour'; known are expires, groups, models, name, sha256
        """,
    "values of the wrong kind": """\
        plugins = [3]
        tokens = "fast"
        [upstream]
        base_url = "ftp://127.0.0.1"
        proxy = 3
        [server]
        port = "http"
        host = ""
        max_body = "20 apples"
        drain = true
        max_connections = 1.5
        allow_anonymous = "perhaps"
        [telemetry]
        flush_deadline = inf
        [keys]
        name = "a"
        #! 1: should be a table, not 3
        #! 2: tokens: should be a table, not 'fast'
        #! 4: upstream.base_url: URL scheme should be 'http' or 'https', not 'ftp://127.0.0.1'
        #! 5: upstream.proxy: URL input should be a string or URL, not 3
        #! 7: server.port: should be a whole number, not 'http'
        #! 8: server.host: should have at least 1 character, not ''
        #! 9: server.max_body: write a number and a unit (b, kb, mb, gb, kib, mib, gib), \
such as '20 MB', not '20 apples'
        #! 10: server.drain: should be a number, or a text such as '30 s', not true
        #! 11: server.max_connections: should be a whole number, not 1.5
        #! 12: server.allow_anonymous: should be true or false, not 'perhaps'
        #! 14: telemetry.flush_deadline: should be a finite number, not inf
        #! 15: keys: should be an array: write [[keys]], not [keys]
        """,
    "addresses that no path can be put behind, and keys that are none": """\
        [upstream]
        base_url = "https://api.example/v1?version=2"
        api_key = ""
        #! 2: upstream.base_url: should end with its path, without query or fragment, \
not 'https://api.example/v1?...'
        #! 3: upstream.api_key: is empty
        """,
    "a secret that is too short": """\
        upstream.base_url = "http://127.0.0.1:1/v1"
        store.secret = "hush"
        #! 2: store.secret: should have at least 16 characters
        """,
    "an array of which one item is wrong is not empty": """\
        upstream.base_url = "http://127.0.0.1:1/v1"
        [[plugins]]
        use = "rate_limit"
        [[plugins.limits]]
        name = "a"
        per = "caller"
        requestz = 5
        #! 7: unknown key 'requestz'; did you mean 'requests'?
        """,
    "a password in an address": """\
        upstream.base_url = "https://user:hunter2@api.example/v1"
        #! 1: upstream.base_url: should hold no password, as upstream.api_key may, \
not 'https://...@api.example/v1'
        """,
    "our own keys without a key of the upstream": f"""\
        [upstream]
        base_url = "http://127.0.0.1:1/v1"
        [[keys]]
        name = "a"
        sha256 = "{HASH}"
        #! 3: keys: without upstream.api_key they would go to the upstream; \
set it, to "none" if the upstream wants no key
        """,
    "keys that cannot be told apart": f"""\
        [upstream]
        base_url = "http://127.0.0.1:1/v1"
        api_key = "x"
        [[keys]]
        name = "a"
        sha256 = "{HASH}"
        [[keys]]
        name = "a"
        sha256 = "{HASH}"
        #! 8: name: another key has the same name
        #! 9: sha256: another key has the same sha256
        """,
    "an upstream's key that others could spend": """\
        [upstream]
        base_url = "http://127.0.0.1:1/v1"
        api_key = "x"
        [server]
        host = "0.0.0.0"
        #! 5: server.host: whoever reaches 0.0.0.0 could spend upstream.api_key; \
add [[keys]] (dragoman keys new), or set server.allow_anonymous = true
        """,
    "one port for two listeners": """\
        server = { port = 9000, host = "::", admin_port = 9000 }
        upstream = { base_url = "http://127.0.0.1:1/v1" }
        #! 1: server.admin_port: 9000 is server.port, too; choose another
        """,
    "a proxy in front of itself": """\
        upstream = { base_url = "http://localhost:8080/v1" }
        #! 1: upstream.base_url: is the address of this proxy itself
        """,
    "a body that never fits": """\
        upstream = { base_url = "http://127.0.0.1:1/v1" }
        server.max_body = "1 GB"
        #! 2: server.max_body: is more than server.max_body_in_flight allows for all bodies together
        """,
    "workers with a store each": """\
        upstream.base_url = "http://127.0.0.1:1/v1"
        [server]
        workers = 2
        #! 3: server.workers: memory:// is each process's own, so limits and budgets would count \
many times; set store.url to a Redis or Valkey, or workers = 1
        """,
    "nothing about what depends on a mistake": """\
        [upstream]
        base_url = "http://127.0.0.1:1/v1"
        api_key = "env:NO_SUCH_KEY"
        [server]
        host = "0.0.0.0"
        port = 8080
        admin_port = 80_800
        allow_anonymous = 2
        max_body = 1_000_000_000
        max_body_in_flight = "a lot"
        [[keys]]
        name = "a"
        #! 3: upstream.api_key: the environment variable 'NO_SUCH_KEY' is not set
        #! 7: server.admin_port: should be at most 65535, not 80800
        #! 8: server.allow_anonymous: should be true or false, not 2
        #! 10: server.max_body_in_flight: write a number and a unit \
(b, kb, mb, gb, kib, mib, gib), such as '20 MB', not 'a lot'
        #! 11: sha256: is required
        """,
    "a file that names no upstream": """\
        [upstream]
        retries = 1
        #! 1: no upstream: run with --upstream https://api.openai.com/v1, or write \
base_url = "https://api.openai.com/v1" under [upstream] in config.toml
        """,
}


KEYS = st.sampled_from([str(part) for place in config.variables().values() for part in place])

# Whatever may stand in a file, in places where settings are and where none are.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "env:NO"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_all_at_once_with_their_lines(text: str) -> None:
    lines = [line.strip() for line in text.splitlines()]
    expected = [f"config.toml:{line[3:]}" for line in lines if line.startswith("#!")]
    assert problems("\n".join(lines)) == expected


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_stands_in_a_file_is_told_and_never_raised(values: dict[str, Any]) -> None:
    mistakes = Mistakes(Document("config.toml", values, {}))
    found = config._settings(dict(values), mistakes)
    rules.check(found, mistakes)
    assert mistakes.found
    assert all("\n" not in mistake.text for mistake in mistakes.found)


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"api_key = ['{SECRET}']",
        f"api_key = '{SECRET} {SECRET}'",
        f"api_key = {{ value = '{SECRET}' }}",
        "api_key = 1234567890",
        f"api_kye = '{SECRET}'",
        "api_key_header = 'env:SECRET'",
        "retries = 'env:SECRET'",
        "connect_timeout = 'env:SECRET'",
        f"proxy = 'ftp://user:{SECRET}@127.0.0.1'",
        f"proxy = 'ftp://127.0.0.1?key={SECRET}'",
        f"api_key_header = 'sk-{SECRET}'",
        f"keys = 'dgm-{SECRET}'",
        f"api_key = '{SECRET}",
        f"api_key = {SECRET}",
    ],
)
def test_no_mistake_shows_a_secret(text: str) -> None:
    found = "\n".join(problems(UPSTREAM + text, {"SECRET": SECRET}))
    assert "config.toml:3" in found
    assert "hunter2" not in found
    assert "1234567890" not in found


def test_a_short_secret_does_not_make_a_message_unreadable() -> None:
    assert problems(UPSTREAM + 'retries = "env:SECRET"', {"SECRET": "e"}) == [
        "config.toml:3: upstream.retries: should be a whole number"
    ]


def test_an_api_key_that_no_header_can_carry_is_a_mistake() -> None:
    for key in ("two words", "line\nbreak", "schl\u00fcssel"):
        (problem,) = problems(UPSTREAM + 'api_key = "env:KEY"', {"KEY": key})
        assert problem == (
            "config.toml:3: upstream.api_key: "
            "holds a space, a line break or another character that no key has"
        )
