"""Which headers cross the proxy."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from proxy import headers

HOP_BY_HOP = [
    "Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Proxy-Connection",
]


def test_end_to_end_headers_keep_order_case_and_duplicates():
    sent = [("X-Stainless-Lang", "python"), ("accept", "a"), ("accept", "b"), ("OpenAI-Beta", "x")]
    kept, _ = headers.for_upstream(sent)
    assert list(kept.items()) == sent


def test_a_name_in_two_spellings_goes_by_the_first():
    """aiohttp's client would take them for two names, and send the value of the last."""
    kept, _ = headers.for_upstream([("X-Tag", "1"), ("Accept", "a"), ("x-tag", "2")])
    assert list(kept.items()) == [("X-Tag", "1"), ("Accept", "a"), ("X-Tag", "2")]


@pytest.mark.parametrize(
    "name", [*HOP_BY_HOP, "Host", "Expect", "Content-Length", "X-Dragoman-Scene"]
)
def test_a_header_for_one_hop_does_not_reach_the_upstream(name):
    kept, _ = headers.for_upstream([(name.lower(), "x"), ("Accept", "a")])
    assert list(kept) == ["Accept"]


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_a_header_for_one_hop_does_not_reach_the_client(name):
    assert not headers.for_client([(name.upper(), "x")])


def test_headers_that_connection_names_are_for_one_hop_too():
    sent = [("Connection", "close, X-Secret"), ("x-secret", "1"), ("Accept", "a")]
    assert list(headers.for_upstream(sent)[0]) == ["Accept"]
    assert list(headers.for_client(sent)) == ["Accept"]


def test_our_own_headers_come_out_as_options():
    _, options = headers.for_upstream([("X-Dragoman-Scene", "code"), ("Accept", "a")])
    assert options == {"scene": "code"}


def test_content_length_of_an_answer_stays():
    assert headers.for_client([("Content-Length", "3")])["content-length"] == "3"


@pytest.mark.parametrize("value", ["a\r\nb", "", "x" * 129, "é", "a b", None])
def test_a_request_id_that_could_do_harm_is_not_taken(value):
    assert headers.valid_request_id(value) is None


def test_a_plain_request_id_is_taken():
    assert headers.valid_request_id("req_1.2-Z") == "req_1.2-Z"


@pytest.mark.parametrize(("name", "value"), [("authorization", "Bearer up"), ("api-key", "up")])
def test_the_upstreams_key_replaces_whatever_the_client_brought(name, value):
    fields = CIMultiDict({"Authorization": "Bearer theirs", "Api-Key": "theirs", "Accept": "a"})
    headers.set_key(fields, name, "up")
    assert dict(fields) == {"Accept": "a", name: value}
