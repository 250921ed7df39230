"""What becomes of the keys of a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.errors import ConfigError
from proxy.keys.changes import rotated, with_new, without
from proxy.keys.table import StoredKey

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def key(name, number=0, **settings):
    return StoredKey(name=name, sha256=f"{number:064x}", created=NOW - DAY, **settings)


def hashes(keys):
    return [(each.name, int(each.sha256, 16)) for each in keys]


ALICE, BOB = key("alice", 1, groups=("free",), models=("o3",)), key("bob", 2)


def rotate(keys, name, number, *, now=NOW, grace=DAY, expires=None):
    return rotated(keys, name, f"{number:064x}", now, grace, expires)


def test_a_name_has_one_key_until_it_is_rotated_or_revoked():
    assert hashes(with_new((ALICE,), BOB, NOW)) == [("alice", 1), ("bob", 2)]
    with pytest.raises(ConfigError, match="alice has a key"):
        with_new((ALICE,), key("alice", 3), NOW)
    with pytest.raises(ConfigError, match="no key of carl"):
        without((ALICE, BOB), "carl")
    assert without((ALICE, BOB), "alice") == (BOB,)


def test_a_rotated_key_has_the_settings_of_the_one_before_which_ends():
    _, before, made = rotate((ALICE, BOB), "alice", 3)
    assert (made.groups, made.models, made.created, made.expires) == (("free",), ("o3",), NOW, None)
    assert before == ALICE.model_copy(update={"expires": NOW + DAY})


def test_rotation_never_lets_an_old_key_live_longer():
    short = key("alice", 1, expires=NOW + timedelta(hours=1))
    before, made = rotate((short,), "alice", 2, expires=NOW + 9 * DAY)
    assert before.expires == short.expires
    assert made.expires == NOW + 9 * DAY
    assert rotate((short,), "alice", 2)[-1].expires == short.expires


def test_of_many_rotations_within_the_grace_only_the_last_key_has_no_end():
    keys = (ALICE,)
    for number in range(2, 5):
        keys = rotate(keys, "alice", number, now=NOW - timedelta(seconds=number))  # clocks differ
    assert hashes(keys) == [("alice", number) for number in (1, 2, 3, 4)]
    assert [each.expires is None for each in keys] == [False, False, False, True]


def test_without_grace_the_old_key_is_gone_at_once():
    assert hashes(rotate((ALICE, BOB), "alice", 3, grace=timedelta())) == [("bob", 2), ("alice", 3)]


def test_a_key_that_is_over_is_rotated_only_with_another_end():
    over = key("alice", 1, expires=NOW - DAY)
    with pytest.raises(ConfigError, match="--expires"):
        rotate((over,), "alice", 2)
    assert hashes(rotate((over,), "alice", 2, expires=NOW + DAY)) == [("alice", 2)]


def test_keys_that_are_over_are_kept_for_people_to_see_until_their_name_has_another():
    over, old = key("carl", 7, expires=NOW - DAY), key("alice", 8, expires=NOW - DAY)
    found = with_new((over, old, ALICE), BOB, NOW)
    assert hashes(found) == [("carl", 7), ("alice", 1), ("bob", 2)]


def test_a_grace_beyond_the_calendar_is_a_mistake():
    with pytest.raises(ConfigError, match="--grace"):
        rotate((ALICE,), "alice", 2, grace=timedelta(days=999_999_999))
