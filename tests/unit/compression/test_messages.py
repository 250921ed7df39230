"""Digests: equal where a model sees no difference, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.compression.messages import digest_of, newest_user, text_of
from plugins.compression.prefix import chain, segment_key

CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"a":1}'},
}
IMAGE: dict[str, Any] = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
}

SAME = [
    (
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ),
    (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
    ),
    ({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "a", "refusal": None}),
    (
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "annotations": []},
    ),
    (
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "reasoning_content": "b"},
    ),
    (
        {"role": "user", "content": "a"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        },
    ),
]
OTHER = [
    ({"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}),
    ({"role": "user", "content": "a"}, {"role": "user", "content": "a "}),
    ({"role": "user", "content": "a"}, {"role": "user", "content": "a", "name": "Ann"}),
    (
        {"role": "user", "content": [IMAGE]},
        {
            "role": "user",
            "content": [{**IMAGE, "image_url": {**IMAGE["image_url"], "detail": "high"}}],
        },
    ),
    (
        {"role": "assistant", "tool_calls": [CALL]},
        {
            "role": "assistant",
            "tool_calls": [{**CALL, "function": {"name": "look", "arguments": '{"a":2}'}}],
        },
    ),
    (
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
        {"role": "tool", "tool_call_id": "c2", "content": "x"},
    ),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_what_clients_send_back_differently_has_the_same_digest(a, b):
    assert digest_of(a) == digest_of(b)


@pytest.mark.parametrize(("a", "b"), OTHER)
def test_what_means_something_else_has_another_digest(a, b):
    assert digest_of(a) != digest_of(b)


def test_a_hash_covers_all_that_came_before_and_who_asks():
    digests = [digest_of({"role": "user", "content": str(n)}) for n in range(5)]
    links = chain(b"s", "ann", digests)
    edited = chain(b"s", "ann", [*digests[:2], b"x" * 32, *digests[3:]])
    assert links[:3] == edited[:3]
    assert not set(links[3:]) & set(edited)
    assert not set(links) & set(chain(b"s", "bob", digests))
    assert not set(links) & set(chain(b"t", "ann", digests))
    assert segment_key(links[0], links[3]) != segment_key(links[1], links[3])


def test_odd_messages_are_read():
    assert (
        text_of({"role": "user", "content": [None, {"type": "file"}, {"type": "text", "text": 3}]})
        == "[file]"
    )
    assert text_of({"role": "user", "content": 7}) == ""
    assert newest_user([{"role": "system"}, {}]) is None
    assert digest_of({"role": 3, "content": [[]], "tool_calls": "x"})
