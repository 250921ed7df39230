"""Who is asking."""

from __future__ import annotations

import hashlib

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.callers import KEY_PREFIX, Callers, fingerprint, new_key
from proxy.errors import Unauthorized
from proxy.settings import Key


def headers(**fields):
    return CIMultiDictProxy(CIMultiDict({k.replace("_", "-"): v for k, v in fields.items()}))


def test_callers_of_the_upstreams_keys_are_told_apart_and_their_keys_are_not_in_their_ids():
    callers = Callers((), ours_only=False)
    a, b = (callers.identify(headers(Authorization=f"Bearer sk-{n}")) for n in "ab")
    assert a.id != b.id
    assert "sk-" not in a.id
    assert hashlib.sha256(b"sk-a").hexdigest()[:32] != a.id
    assert callers.identify(headers(authorization="bearer sk-a")) == a


def test_keys_that_share_a_long_prefix_are_two_callers():
    callers = Callers((), ours_only=False)
    ids = {callers.identify(headers(Authorization="Bearer " + "x" * 200 + n)).id for n in "ab"}
    assert len(ids) == 2


def test_an_id_is_of_use_in_one_process_only():
    fields = headers(Authorization="Bearer sk-a")
    ids = {Callers((), ours_only=False).identify(fields).id for _ in range(2)}
    assert len(ids) == 2


KEY = KEY_PREFIX + "T9Wkwz6Qy9YBwK37yrrKde2gPXE6CbqrG44Yz3EQ4hU"
TABLE = (Key(name="team-a", sha256=fingerprint(KEY)),)


@pytest.mark.parametrize(
    "fields",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY} "},
        {"api_key": KEY},
        {"Sec_WebSocket_Protocol": f"realtime, openai-insecure-api-key.{KEY}"},
    ],
)
def test_a_key_of_ours_is_known_however_it_is_brought(fields):
    assert Callers(TABLE, ours_only=True).identify(headers(**fields)).name == "team-a"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}x",
        f"Basic {KEY}",
        f"{fingerprint(KEY)}",
        f"Bearer {fingerprint(KEY)}",
        "Bearer ' OR 1=1 --",
        "Bearer \udcff",
        "Bearer " + "x" * 100_000,
    ],
)
def test_any_other_key_is_refused(value):
    with pytest.raises(Unauthorized):
        Callers(TABLE, ours_only=True).identify(headers(Authorization=value))


def test_a_refusal_does_not_quote_the_key():
    with pytest.raises(Unauthorized) as error:
        Callers(TABLE, ours_only=True).identify(headers(Authorization="Bearer sk-SECRET"))
    assert "SECRET" not in str(error.value)


def test_with_our_key_upstream_and_no_table_everybody_is_anonymous():
    caller = Callers((), ours_only=True).identify(headers(Authorization="Bearer anything"))
    assert caller.id == "anonymous"


def test_new_keys_are_long_and_never_the_same():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(KEY_PREFIX) and len(key) > 40 for key in keys)
