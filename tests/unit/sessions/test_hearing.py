"""What a client was shown, put together again: of an answer in one piece, and of a stream."""

from __future__ import annotations

import pytest

from plugins.sessions.hearing import Heard
from proxy.exchange import Exchange
from proxy.plugin import Chunk, FullResponse
from proxy.strictjson import encode


def heard(*pieces):
    over = []
    listener = Heard(lambda: over.append(True))
    for piece in pieces:
        listener(piece)
    listener(None)
    assert over
    return listener


def full(*choices, status=200):
    exchange = Exchange("r", "POST", "/", "/")
    return FullResponse(exchange, encode({"choices": choices}), status=status)


def stream(*deltas, index=0):
    last = Chunk.of({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
    return [Chunk.of({"choices": [{"index": index, "delta": delta}]}) for delta in deltas] + [last]


def part(index, **function):
    call = {"index": index, "function": function}
    return {
        "tool_calls": [
            call | ({"id": f"c{index}", "type": "function"} if "name" in function else {})
        ]
    }


CALLS = [
    {"id": f"c{i}", "type": "function", "function": {"name": f"f{i}", "arguments": '{"a": 1}'}}
    for i in range(2)
]


@pytest.mark.parametrize(
    ("message", "deltas"),
    [
        (
            {"content": "ab c"},
            [{"role": "assistant", "content": ""}, {"content": "ab"}, {"content": " c"}],
        ),
        ({"content": ""}, [{"role": "assistant", "content": ""}]),
        ({"content": None, "refusal": "No."}, [{"refusal": "N"}, {"refusal": "o."}]),
        (
            {"content": None, "tool_calls": CALLS},
            [
                part(0, name="f0", arguments=""),
                part(0, arguments='{"a"'),
                part(1, name="f1", arguments='{"a": 1}'),
                part(0, arguments=": 1}"),
            ],
        ),
        (
            {"content": "I look.", "tool_calls": CALLS[:1]},
            [{"content": "I look."}, {"tool_calls": [{"index": 0, **CALLS[0]}]}],
        ),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [
                {"function_call": {"name": "f", "arguments": "{"}},
                {"function_call": {"arguments": "}"}},
            ],
        ),
    ],
)
def test_both_forms_come_to_the_same(message, deltas):
    message = {"role": "assistant", **message}
    said = {
        **message,
        "refusal": message.get("refusal"),
        "annotations": [],
        "reasoning_content": "hm",
    }
    whole = heard(full({"index": 0, "message": said, "finish_reason": "stop"}))
    streamed = heard(*stream(*deltas, {"reasoning_content": "hm"}))
    assert whole.message() == streamed.message() == message
    assert whole.finish_reason == streamed.finish_reason == "stop"


def test_only_the_first_choice_is_heard():
    choices = [
        {"index": i, "message": {"content": str(i)}, "finish_reason": "stop"} for i in (1, 0)
    ]
    assert heard(full(*choices)).message()["content"] == "0"
    pieces = [*stream({"content": "no"}, index=1), *stream({"content": "yes"})]
    assert heard(*pieces).message()["content"] == "yes"


@pytest.mark.parametrize(
    "piece",
    [
        full({"index": 0, "message": {"content": "x"}}, status=500),
        full(),
        full({"index": 1, "message": {"content": "x"}}),
        full("nonsense", {"message": "text"}),
        Chunk.of({"error": {"message": "x"}}),
        Chunk.of({"choices": [], "usage": {}}),
        Chunk.of({"choices": "nonsense"}),
    ],
)
def test_errors_and_what_is_no_answer_are_not_heard(piece):
    assert not heard(piece).begun


@pytest.mark.parametrize(
    "delta", [None, "text", {"content": 1}, {"tool_calls": [1, {"index": "x"}]}, {"tool_calls": {}}]
)
def test_an_answer_of_another_form_does_no_harm(delta):
    assert heard(*stream(delta, {"content": "yes"})).message()["content"] == "yes"
