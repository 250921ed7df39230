"""URLs of stores: what they say, what is wrong with them, and that no password is repeated."""

from __future__ import annotations

import pytest

from proxy.config import Configuration
from proxy.settings import Settings
from proxy.startup import startup_lines
from proxy.store.address import Address
from tests.support.configs import UPSTREAM, configuration, problems


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("memory://", "memory", "memory://"),
        ("redis://localhost", "redis", "redis://localhost:6379"),
        ("rediss://me:pa%40ss@h.example:1/3", "redis", "rediss://h.example:1"),
        ("redis://:p@[::1]:7000", "redis", "redis://[::1]:7000"),
        ("unix:///run/redis.sock?db=2", "unix", "unix:///run/redis.sock"),
        ("unix://me:p@/run/redis.sock", "unix", "unix:///run/redis.sock"),
        ("redis+sentinel://a,b:7/main", "sentinel", "redis+sentinel://a:26379,b:7"),
        ("redis+cluster://:p@a:1,b", "cluster", "redis+cluster://a:1,b:6379"),
    ],
)
def test_a_url_is_shown_by_its_hosts(url, kind, shown):
    address = Address.parse(url)
    assert (address.kind, str(address)) == (kind, shown)


def test_a_url_is_read_in_all_its_parts():
    url = (
        "rediss+sentinel://me:p%40ss%2F@a:1,b/main/7"
        "?sentinel_password=other&ssl_ca_certs=/ca.pem&ssl_check_hostname=false"
    )
    address = Address.parse(url)
    assert address.nodes == (("a", 1), ("b", 26_379))
    assert (address.username, address.password) == ("me", "p@ss/")
    assert (address.service, address.database, address.has_tls) == ("main", 7, True)
    assert address.options["sentinel_password"] == "other"
    assert not any(secret in repr(address) for secret in ("p@ss", "other", "'me'"))


def test_the_number_of_the_database_may_stand_in_two_places():
    assert Address.parse("redis://a/4").database == 4
    assert Address.parse("redis://a?db=4").database == 4
    assert Address.parse("unix:///s?db=4").database == 4


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:6379", "should be a URL, such as"),
        ("reddis://:secret@a", "unknown scheme 'reddis'; did you mean 'redis'?"),
        ("https://:secret@a", "unknown scheme 'https'; known are memory, redis, "),
        ("memory://host", 'has nothing behind "memory://"'),
        ("redis://", "should name a host"),
        ("redis://:secret@a:port", "a number from 1 to 65535 as its port"),
        ("redis://:sec/ret@a", "in a password, write %2F for it"),
        ("redis://:sec#ret@a", "holds a #; in a password, write %23 for it"),
        ("redis://:sec[ret@a", "is no URL; in a password, write %5B and %5D for [ and ]"),
        ("redis://a,b", "should name one host"),
        ("redis://a/secret", "should end with the number of a database"),
        ("redis://a?decode_responses=secret", "has an option that is unknown with redis://"),
        ("rediss://a?ssl_ca_cert=x", "did you mean 'ssl_ca_certs'?"),
        ("rediss://a?ssl_cert_reqs=no", "ssl_cert_reqs should be required or none"),
        ("unix://run/redis.sock", "should have three slashes"),
        ("unix://", "should name a socket"),
        ("redis+sentinel://a", "should end with the name of the service"),
        ("redis+cluster://a/1", "should name no database"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(url, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (said,) = problems(UPSTREAM + f'[store]\nurl = "{url}"')
    assert said.startswith("config.toml:4: store.url: ")
    assert problem in said
    assert not any(secret in said for secret in ("secret", ":sec"))


def test_a_url_may_come_from_the_environment_and_is_hidden(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = UPSTREAM + '[store]\nurl = "env:REDIS_URL"'
    settings = configuration(text, {"REDIS_URL": "redis://:secret@a"}).settings
    assert settings.store.url.get_secret_value() == "redis://:secret@a"
    assert ":secret@" not in repr(settings)
    (said,) = problems(text, {"REDIS_URL": "redis//:secret@a"})
    assert "secret" not in said


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("timeout = 0", "timeout: should be greater than 0, not 0"),
        ('max_memory = "64 M"', "max_memory: write a number and a unit"),
        ('uri = "x"', "unknown key 'uri'; did you mean 'url'?"),
    ],
)
def test_mistakes_in_the_section(setting, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (said,) = problems(f"{UPSTREAM}[store]\n{setting}")
    assert problem in said


def test_the_server_says_at_start_where_its_store_is_without_the_password():
    def lines(url):
        values = {"upstream": {"base_url": "http://a/v1"}, "store": {"url": url}}
        return startup_lines(Configuration(Settings.model_validate(values), (), None, ()))

    assert "store redis://a:6379" in lines("redis://me:secret@a/3")
    assert not any("store" in line for line in lines("memory://"))
