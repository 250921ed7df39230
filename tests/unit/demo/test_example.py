"""An example fits its schema."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from proxy.demo.example import DEEPEST, example


class Colour(Enum):
    RED = "red"


class Part(BaseModel):
    name: str
    size: float
    tags: list[str]


class Whole(BaseModel):
    parts: list[Part]
    kind: Literal["a", "b"]
    colour: Colour
    count: int
    sound: bool
    nothing: None
    either: int | str
    note: str = "none"


def test_a_model_of_pydantic_takes_the_example_of_its_schema():
    Whole.model_validate(example(Whole.model_json_schema(), iter(())))


def test_texts_are_taken_from_the_words_as_long_as_there_are_any():
    schema = TypeAdapter(tuple[str]).json_schema() | {"items": {"type": "string"}, "minItems": 3}
    assert example(schema, iter(["one", "two"])) == ["one", "two", "demo"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 3}, 3),
        ({"type": "string", "default": "x"}, "x"),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": ["integer", "null"], "minimum": 7}, 7),
        ({"properties": {"a": {"type": "boolean"}}}, {"a": True}),
        ({"type": "object", "required": ["a"]}, {"a": "demo"}),
        ({"type": "object"}, {}),
        ({}, "demo"),
        (True, None),
    ],
)
def test_the_plainest_value_is_taken(schema, value):
    assert example(schema, iter(())) == value


def test_a_schema_that_refers_to_itself_comes_to_an_end():
    schema = {"type": "array", "items": {"$ref": "#"}}
    assert str(example(schema, iter(()))).count("[") < DEEPEST
