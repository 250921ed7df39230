"""Bodies that the real API would not take get its errors."""

from __future__ import annotations

import pytest

from proxy.demo.bodies import Chat, Embeddings, Moderations, checked, decode
from proxy.demo.errors import UpstreamError

USER = {"role": "user", "content": "Hi"}
CALLING = {"role": "assistant", "tool_calls": [{"id": "call_1"}, {"id": "call_2"}]}


def result(call_id):
    return {"role": "tool", "tool_call_id": call_id, "content": "22 °C"}


def refusal(model, body):
    with pytest.raises(UpstreamError) as raised:
        checked(model, body)
    assert raised.value.status == 400
    return raised.value


def chat(**fields):
    return {"model": "m", "messages": [USER], **fields}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"model": ""}, "model", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"response_format": {"type": "verse"}}, "response_format.type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"demo": {"mistake": 500}}, "demo.mistake", "unknown_parameter"),
        ({"demo": {"error": 200}}, "demo.error", "invalid_value"),
        ({"demo": {"delay": "soon"}}, "demo.delay", "invalid_value"),
    ],
)
def test_what_is_wrong_is_named(fields, param, code):
    error = refusal(Chat, chat(**fields))
    assert (error.param, error.code) == (param, code)


def test_fields_that_are_not_known_are_taken():
    assert checked(Chat, chat(reasoning_effort="low", top_k=5)).model == "m"


def test_one_stop_sequence_stands_for_a_list_of_one():
    assert checked(Chat, chat(stop="\n")).stop == ["\n"]


def test_durations_may_have_units():
    assert checked(Chat, chat(demo={"delay": "50 ms", "first_byte_delay": 2})).demo.delay == 0.05


@pytest.mark.parametrize(
    "messages",
    [
        [USER, CALLING, result("call_1"), result("call_2")],
        [USER, CALLING, result("call_2"), result("call_1"), USER],
    ],
)
def test_results_that_follow_their_calls_are_taken(messages):
    assert len(checked(Chat, chat(messages=messages)).messages) == len(messages)


@pytest.mark.parametrize(
    "messages",
    [
        [USER, result("call_1")],
        [USER, CALLING, result("call_3")],
        [USER, CALLING, result("call_1"), result("call_1")],
    ],
)
def test_a_result_without_its_call_is_refused(messages):
    assert "must follow a message with its 'tool_calls'" in str(
        refusal(Chat, chat(messages=messages))
    )


@pytest.mark.parametrize(
    "messages",
    [
        [USER, CALLING],
        [USER, CALLING, result("call_1")],
        [USER, CALLING, result("call_1"), USER, result("call_2")],
    ],
)
def test_a_call_without_its_result_is_refused(messages):
    assert "must be followed by tool messages" in str(refusal(Chat, chat(messages=messages)))


def test_an_empty_list_of_inputs_is_refused():
    assert refusal(Embeddings, {"model": "m", "input": []}).param == "input"
    assert refusal(Moderations, {"input": []}).param == "input"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"model": NaN}'])
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(UpstreamError, match="We could not parse the JSON body"):
        decode(data)
