"""The facts of an answer, read off its bytes."""

from __future__ import annotations

import json

import pytest

from proxy.usage import Usage
from proxy.watch import AnswerFacts, StreamFacts, error_code
from tests.support.upstream import chunks, completion

FRAME = {"id": "c", "object": "chat.completion.chunk", "model": "m"}


def event(**fields):
    return b"data: " + json.dumps({**FRAME, **fields}, separators=(",", ":")).encode() + b"\n\n"


def stream(*events, **options):
    facts = StreamFacts(**{"asked": True, **options})
    return facts, b"".join(facts.feed(e) for e in events)


def test_the_facts_of_an_answer_in_one_piece():
    facts = AnswerFacts()
    facts.read(completion("Hi", (9, 3)))
    assert facts.usage == Usage(9, 3)
    assert facts.finish_reasons == ["stop"]
    assert facts.response["model"] == "gpt-4o-mini-2024-07-18"
    assert facts.complete


def test_details_of_a_usage_are_read():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    assert Usage.reported(usage) == Usage(100, 50, 64, 7, 40)


@pytest.mark.parametrize(
    "usage", [None, {}, [], "9", {"prompt_tokens": "9", "completion_tokens": 1}]
)
def test_what_is_no_usage_is_none(usage):
    assert Usage.reported(usage) is None


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"choices":3}', b'{"usage":[1]}'])
def test_an_odd_answer_has_no_facts_and_does_no_harm(body):
    facts = AnswerFacts()
    facts.read(body)
    assert facts.usage is None
    assert facts.finish_reasons == []


def test_the_chunk_that_we_asked_for_is_taken_out_and_read():
    asked = chunks("Hello there", {"stream_options": {"include_usage": True}}, (9, 3))
    facts, seen = stream(*asked)
    assert facts.usage == Usage(9, 3)
    assert seen == b"".join(chunks("Hello there", {}))


def test_nothing_is_taken_out_if_the_client_asked():
    asked = chunks("Hello there", {"stream_options": {"include_usage": True}})
    facts, seen = stream(*asked, asked=False)
    assert seen == b"".join(asked)
    assert facts.usage == Usage(9, 3)


def test_usage_beside_text_was_not_ours_to_ask_for_and_stays():
    with_both = event(
        choices=[{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}],
        usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    )
    facts, seen = stream(with_both)
    assert seen == with_both
    assert facts.usage == Usage(1, 1)


@pytest.mark.parametrize(
    ("came", "seen"),
    [
        (b'data: {"id":"c","choices":[1],"usage":null}\n\n', b'data: {"id":"c","choices":[1]}\n\n'),
        (
            b'data: {"choices":[1],"usage":null,"obfuscation":"xY1"}\n\n',
            b'data: {"choices":[1],"obfuscation":"xY1"}\n\n',
        ),
        (b'data: {"usage":null,"choices":[1]}\n\n', b'data: {"choices":[1]}\n\n'),
        (b'data: {"choices":[1], "usage" : null }\r\n\r\n', b'data: {"choices":[1]}\r\n\r\n'),
        (
            b'data: {"choices":[{"delta":{"content":",\\"usage\\":null"}}],"usage":null}\n\n',
            b'data: {"choices":[{"delta":{"content":",\\"usage\\":null"}}]}\n\n',
        ),
        (
            b'data: {"choices":[{"x":{"a":1,"usage":null}}]}\n\n',
            b'data: {"choices":[{"x":{"a":1,"usage":null}}]}\n\n',
        ),
    ],
)
def test_a_null_usage_is_taken_out_of_the_chunk_and_nothing_else(came, seen):
    assert stream(came)[1] == seen


def test_several_events_in_one_run_lose_their_nulls_each():
    run = event(choices=[1], usage=None) * 3
    assert stream(run)[1] == event(choices=[1]) * 3


def test_a_stream_is_complete_with_a_finish_reason_or_done():
    text = event(choices=[{"index": 0, "delta": {"content": "x"}, "finish_reason": None}])
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}])
    assert not stream(text)[0].complete
    assert stream(text, end)[0].complete
    assert stream(text, b"data: [DONE]\n\n")[0].complete


def test_text_that_speaks_of_done_and_finish_is_only_text():
    text = 'data: [DONE]\n\n"finish_reason":"stop","usage":{"prompt_tokens":5}'
    facts, _ = stream(event(choices=[{"delta": {"content": text}, "finish_reason": None}]))
    assert not facts.complete
    assert facts.usage is None
    assert facts.finish_reasons == []


def test_the_text_is_kept_for_counting_only_where_it_may_have_to_be_counted():
    events = chunks('He said "世界\n😀"', {})
    assert stream(*events, count=True)[0].plain_text() == 'He said "世界\n😀"'
    assert stream(*events)[0].plain_text() == ""


def test_text_of_tool_calls_and_reasoning_counts_too():
    call = {"index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}
    facts, _ = stream(
        event(choices=[{"delta": {"reasoning_content": "hm "}}]),
        event(choices=[{"delta": {"tool_calls": [call]}}]),
        count=True,
    )
    assert facts.plain_text() == 'hm f{"a":1}'


def test_an_error_inside_a_stream_is_noticed():
    assert stream(b'data: {"error":{"message":"x"}}\n\n')[0].failed


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"model_not_found"}}', "model_not_found"),
        (b'{"error":{"code":null,"type":"server_error"}}', "server_error"),
        (b'{"error":"boom"}', None),
        (b"<html>", None),
        (b'{"error":{"code":404}}', None),
    ],
)
def test_the_code_of_an_upstreams_error(body, code):
    assert error_code(body) == code
