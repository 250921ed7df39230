from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.tokens.count import Doubt
from proxy.tokens.models import Template
from proxy.tokens.tools import Call, arguments, calls, namespace, recipient, results

TEMPLATE = Template("test")
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather.\n\n    Args: city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TIME = {"name": "get_time", "parameters": {}}


def render(settings: dict[str, Any]) -> Any:
    return namespace(settings, lambda _size: True, TEMPLATE)


def test_functions_make_a_namespace() -> None:
    tools = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
    rendered = render({"tools": tools})
    assert rendered.text == (
        "# Tools\n\n## functions\n\nnamespace functions {\n\n"
        "// Tells the weather.\n//\n// Args: city\n"
        "type get_weather = (_: { city?: string }) => any;\n\n"
        "type get_time = () => any;\n\n"
        "} // namespace functions"
    )
    assert rendered.is_described
    assert rendered.doubt is Doubt.NONE


def test_functions_of_2023_look_the_same() -> None:
    tools = [{"type": "function", "function": WEATHER}]
    assert render({"functions": [WEATHER]}) == render({"tools": tools})


def test_functions_without_descriptions_are_known_as_such() -> None:
    assert not render({"functions": [TIME]}).is_described


@pytest.mark.parametrize("settings", [{}, {"tools": []}, {"tools": 7}, {"functions": ["x"]}])
def test_no_functions_make_no_namespace(settings: dict[str, Any]) -> None:
    assert render(settings) is None


@pytest.mark.parametrize("tool", [{}, {"type": "function"}, {"function": 7}])
def test_a_tool_that_is_no_function_raises_a_doubt(tool: dict[str, Any]) -> None:
    assert render({"tools": [tool]}).doubt is Doubt.GREAT


def test_a_custom_tool_shows_its_grammar() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: INT"}}
    tool = {"type": "custom", "custom": {"name": "exp", "description": "D", "format": grammar}}
    rendered = render({"tools": [tool]})
    assert "// D\n// start: INT\ntype exp = () => any;" in rendered.text
    assert rendered.doubt is Doubt.GREAT


def test_calls_are_found_in_every_form() -> None:
    message = {
        "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": "{}"}},
            {"id": "2", "custom": {"name": "g", "input": "1+1"}},
            {"id": "3"},
            None,
        ],
        "function_call": {"name": "h"},
    }
    assert calls(message) == [Call("1", "f", "{}"), Call("2", "g", "1+1"), Call("", "h", "")]


def test_a_call_is_addressed_to_its_function() -> None:
    call = Call("1", "f", '{ "x": "é",\n "y": 1.0 }')
    assert recipient([call]) == "functions.f"
    assert arguments([call]) == '{"x":"é","y":1.0}'


@pytest.mark.parametrize("odd", ["", "{", '{"x": NaN}', "[" * 5_000, '"\ud800"', '{"\\ud800":1}'])
def test_arguments_that_are_no_json_stay_as_they_are(odd: str) -> None:
    assert arguments([Call("1", "f", odd)]) == odd


def test_long_arguments_stay_as_they_are() -> None:
    long = json.dumps({"x": "a" * 200_000})
    assert arguments([Call("1", "f", long)]) == long


def test_calls_made_at_once_are_one_call() -> None:
    made = [Call("1", "f", '{"x": 1}'), Call("2", "g", "{")]
    assert recipient(made) == "multi_tool_use.parallel"
    assert arguments(made) == (
        '{"tool_uses":[{"recipient_name":"functions.f","parameters":{"x":1}},'
        '{"recipient_name":"functions.g","parameters":"{"}]}'
    )


def test_results_at_once_are_one_array() -> None:
    assert results(["sunny, 20 °", "4", "true"]) == (
        '["sunny, 20 \\u00b0", "4", "true"]',
        Doubt.NONE,
    )


def test_structured_results_are_shown_as_such() -> None:
    assert results(['{"a":[1]}', "x"]) == ('[{"a": [1]}, "x"]', Doubt.LITTLE)
