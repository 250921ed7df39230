"""Who is asking."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.callers import KEY_PREFIX, Callers, Known, fingerprint, new_key
from proxy.errors import Unauthorized
from proxy.exchange import Caller
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


# ---- expiry


def table(**settings):
    return (Key(name="team-a", sha256=fingerprint(KEY), **settings),)


def test_a_key_is_good_until_it_expires():
    fields = headers(Authorization=f"Bearer {KEY}")
    now = datetime.now(UTC)
    later, before = (table(expires=now + timedelta(minutes=m)) for m in (1, -1))
    assert Callers(later, ours_only=True).identify(fields).name == "team-a"
    with pytest.raises(Unauthorized, match="expired"):
        Callers(before, ours_only=True).identify(fields)


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("2026-12-31", "2027-01-01T00:00:00+00:00"),
        (date(2026, 12, 31), "2027-01-01T00:00:00+00:00"),
        ("2026-12-31T12:00:00+01:00", "2026-12-31T12:00:00+01:00"),
        ("2026-12-31T12:00", "2026-12-31T12:00:00+00:00"),
        ("9999-12-31", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_a_day_is_meant_to_its_end_and_a_time_without_a_zone_in_utc(text, until):
    (key,) = table(expires=text)
    assert key.expires.isoformat() == until


@pytest.mark.parametrize("value", ["soon", "", 5, True, "2026-13-01"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="should be a day or a time"):
        table(expires=value)


# ---- whom patterns name

ALICE = Caller("alice", "alice", ("free", "eu"))


@pytest.mark.parametrize(
    ("caller", "patterns", "is_meant"),
    [
        (ALICE, (), True),
        (ALICE, ("alice",), True),
        (ALICE, ("bob", "al*"), True),
        (ALICE, ("Alice",), False),
        (ALICE, ("free",), False),
        (ALICE, ("group:free",), True),
        (ALICE, ("group:e?",), True),
        (ALICE, ("group:*",), True),
        (ALICE, ("group:paid", "group:alice"), False),
        (ALICE, ("*free", "g*"), False),
        (Caller("bob", "bob"), ("group:*",), False),
        (Caller("bob", "bob"), ("group:free", "bob"), True),
        (Caller("a1b2"), ("a1*",), True),
        (Caller("a1b2"), ("group:*",), False),
    ],
)
def test_a_pattern_names_keys_by_their_name_or_group_and_others_by_their_id(
    caller, patterns, is_meant
):
    assert caller.fits(patterns) is is_meant


# ---- whatever a client sends

STORED = Known.by_hash([Key(name="stored", sha256=fingerprint("dgm-stored"))])


class Stored:
    def find(self, sha256):
        return STORED.get(sha256)


@given(st.sampled_from(["Authorization", "api-key", "Sec-WebSocket-Protocol"]), st.binary())
@example("Authorization", b"Bearer \xff\xfe")
@example("Authorization", b"Bearer dgm-stored\x00")
@example("Sec-WebSocket-Protocol", b",,openai-insecure-api-key.,")
@example("api-key", fingerprint("dgm-stored").encode())
def test_what_is_no_key_is_refused_and_breaks_nothing(name, value):
    text = value.decode("utf-8", "surrogateescape")
    callers = Callers(TABLE, ours_only=True, stored=Stored())
    with pytest.raises(Unauthorized) as refusal:
        callers.identify(CIMultiDictProxy(CIMultiDict({name: text})))
    assert refusal.value.message in ("No API key provided.", "Incorrect API key provided.")


def test_a_key_of_the_store_is_as_good_as_one_of_the_configuration():
    callers = Callers(TABLE, ours_only=True, stored=Stored())
    found = [callers.identify(headers(api_key=key)).name for key in (KEY, "dgm-stored")]
    assert found == ["team-a", "stored"]
