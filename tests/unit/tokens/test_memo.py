from __future__ import annotations

import os
import subprocess
import sys

from proxy.tokens.memo import Memo, digest, digests, salted


def test_what_was_asked_for_lately_is_remembered() -> None:
    memo: Memo[str] = Memo(10)
    memo.put(0, "kept")
    for key in range(1, 100):
        memo.put(key, str(key))
        assert memo.get(0) == "kept"


def test_what_nobody_asks_for_is_forgotten() -> None:
    memo: Memo[str] = Memo(10)
    for key in range(100):
        memo.put(key, str(key))
    assert memo.get(0) is None
    assert len(memo) <= 10


def test_many_are_found_at_once_in_order() -> None:
    memo: Memo[str] = Memo(4)
    for key in (1, 2, 3):
        memo.put(key, str(key))
    assert memo.get_all([3, 9, 1]) == ["3", None, "1"]
    assert memo.get_all([1, 3]) == ["1", "3"]


def test_purposes_have_their_own_digests() -> None:
    assert digest(salted(b"one"), b"text") != digest(salted(b"other"), b"text")


def test_parts_do_not_run_into_each_other() -> None:
    salt = salted(b"test")
    assert digest(salt, b"ab", b"c") != digest(salt, b"a", b"bc")


def test_digests_are_the_same_one_by_one() -> None:
    salt = salted(b"test")
    assert digests(salt, [b"a", b"b"]) == [digest(salt, b"a"), digest(salt, b"b")]  # type: ignore[list-item]


def test_digests_cannot_be_foreseen_where_the_hash_seed_is_fixed() -> None:
    code = "from proxy.tokens.memo import digest, salted; print(digest(salted(b''), b'text'))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        ).stdout
        for _ in range(2)
    }
    assert len(seen) == 2
