"""The demo model says what it was sent, and calls the tools that a user speaks of."""

from __future__ import annotations

import msgspec
import pytest

from proxy.demo.model import LONGEST_QUOTE, speak

USER = {"role": "user", "content": "How is the weather in Paris and what is the time in Rome?"}


def function(name, **parameters):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [function("get_weather", **CITY), function("getTime", **CITY), function("send_mail")]


def called(body):
    calls = speak(body, 0).get("tool_calls", [])
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def test_every_answer_says_that_it_is_the_demo_models():
    assert speak({"messages": [USER]}, 0)["content"].startswith("I am the demo model")


def test_an_answer_tells_how_many_messages_there_were_and_quotes_the_newest_of_the_user():
    messages = [{"role": "system", "content": "Be kind."}, USER, {"role": "assistant"}]
    said = speak({"messages": messages}, 0)["content"]
    assert "I was sent 3 messages." in said
    assert USER["content"] in said


def test_the_text_of_a_message_in_parts_is_quoted():
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}]
    said = speak({"messages": [{"role": "user", "content": parts}]}, 0)["content"]
    assert "“Look:”" in said


def test_a_long_message_is_quoted_in_part():
    said = speak({"messages": [{"role": "user", "content": "x" * 10_000}]}, 0)["content"]
    assert said.count("x") == LONGEST_QUOTE


def test_an_answer_tells_the_sampling_parameters_it_was_given():
    said = speak({"messages": [USER], "temperature": 0.5, "max_tokens": 9}, 0)["content"]
    assert "temperature 0.5, max_tokens 9" in said


def test_the_same_request_gets_the_same_answer_but_each_choice_differs():
    body = {"messages": [USER]}
    assert speak(body, 1) == speak(dict(body), 1)
    assert speak(body, 1) != speak(body, 2)


def test_the_tools_that_the_user_speaks_of_are_called_at_once_with_arguments_that_fit():
    assert called({"messages": [USER], "tools": TOOLS}) == [
        ("get_weather", '{"city":"Paris"}'),
        ("getTime", '{"city":"Rome"}'),
    ]


def test_without_parallel_calls_there_is_one():
    body = {"messages": [USER], "tools": TOOLS, "parallel_tool_calls": False}
    assert [name for name, _ in called(body)] == ["get_weather"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", []),
        ("none", []),
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "send_mail"}}, ["send_mail"]),
    ],
)
def test_tool_choice_decides_where_the_user_speaks_of_no_tool(choice, names):
    messages = [{"role": "user", "content": "Hello"}]
    body = {"messages": messages, "tools": TOOLS, "tool_choice": choice}
    assert [name for name, _ in called(body)] == names


def test_tool_choice_none_is_stronger_than_the_user():
    assert called({"messages": [USER], "tools": TOOLS, "tool_choice": "none"}) == []


def test_the_results_of_tools_are_answered_with_a_text_that_quotes_them():
    results = [{"role": "tool", "content": text} for text in ("22 °C", "noon")]
    body = {"messages": [USER, {"role": "assistant"}, *results], "tools": TOOLS}
    said = speak(body, 0)["content"]
    assert "“22 °C”. A tool returned: “noon”." in said


def test_a_json_object_is_given_where_one_is_wanted():
    body = {"messages": [USER], "response_format": {"type": "json_object"}}
    assert msgspec.json.decode(speak(body, 0)["content"])["newest"] == USER["content"]


def test_an_answer_fits_the_schema_that_is_wanted():
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY}}
    assert speak({"messages": [USER], "response_format": form}, 0)["content"] == '{"city":"Paris"}'
