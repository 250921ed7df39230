from __future__ import annotations

from typing import Any

import pytest

from proxy.tokens.count import Doubt
from proxy.tokens.schema import TypeScript, answer_format, comment


def render(parameters: dict[str, Any], **options: bool) -> tuple[str, Doubt]:
    typescript = TypeScript(parameters, lambda _size: True, **{"comments_nested": True, **options})
    return typescript.parameter(), typescript.doubt


def member(schema: Any, **others: Any) -> tuple[str, Doubt]:
    """What stands for a required property `a` of this schema."""
    return render({"properties": {"a": schema}, "required": ["a"], **others})


ENTITY = {
    "title": "Entity",
    "type": "object",
    "properties": {
        "name": {"title": "Name", "description": "Its name.", "type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("schema", "rendered"),
    [
        ({"type": "string"}, "_: { a: string }"),
        ({"type": "integer"}, "_: { a: number }"),
        ({"type": "array", "items": {"type": "number"}}, "_: { a: number[] }"),
        ({"type": "array"}, "_: { a: any[] }"),
        ({"type": "object"}, "_: { a: object }"),
        ({"enum": ["x", 1, None]}, '_: { a: "x" | 1 | null }'),
        ({"const": "x"}, '_: { a: "x" }'),
        ({}, "_: { a: any }"),
        ({"type": "string", "default": "x"}, '_: {\na: string, // default: "x"\n}'),
        (
            {"type": "string", "description": " one\n   two\n"},
            "_: {\n// one\n// two\na: string,\n}",
        ),
        ({"type": "string", "title": "A"}, "_: {\n// A\na: string,\n}"),
        ({"title": "A", "description": "one"}, "_: {\n// A\n//\n// one\na: any,\n}"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "_: { a: string | null }"),
        ({"type": ["string", "null"]}, "_: { a: string | null }"),
    ],
)
def test_simple_members(schema: dict[str, Any], rendered: str) -> None:
    assert member(schema)[0] == rendered


def test_a_function_without_parameters() -> None:
    assert render({}) == ("", Doubt.NONE)
    assert render({"type": "object", "properties": {}}) == ("", Doubt.NONE)


def test_the_title_of_the_parameters_forbids_one_line() -> None:
    rendered, _ = render({"title": "T", "properties": {"a": {"type": "string"}}})
    assert rendered == "_: // T\n{\na?: string,\n}"


def test_an_object_within_forbids_one_line() -> None:
    rendered, _ = member({"type": "object", "properties": {"b": {"type": "string"}}})
    assert rendered == "_: {\na: { b?: string },\n}"


def test_an_array_of_commented_objects() -> None:
    rendered, doubt = member(
        {"type": "array", "items": {"$ref": "#/$defs/Entity"}}, **{"$defs": {"Entity": ENTITY}}
    )
    assert rendered == (
        "_: {\na: Array<\n// Entity\n{\n// Name\n//\n// Its name.\nname: string,\n"
        "tags?: string[],\n}\n>,\n}"
    )
    assert doubt is Doubt.NONE


def test_a_union_with_notes_has_a_line_for_each_variant() -> None:
    rendered, doubt = member({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]})
    assert rendered == '_: {\na:\n | string // format: "date"\n | null\n,\n}'
    assert doubt is Doubt.NONE


def test_a_list_of_types_repeats_the_description() -> None:
    rendered, _ = member({"type": ["string", "null"], "description": "d"})
    assert rendered == "_: {\n// d\na:\n// d\n | string\n// d\n | null\n,\n}"


def test_an_array_of_a_union_with_notes() -> None:
    items = {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    rendered, _ = member({"type": "array", "items": items})
    assert rendered == '_: {\na: Array<\n | string // format: "date"\n | null\n>,\n}'


def test_a_reference_is_shown_as_what_it_refers_to() -> None:
    definitions = {"A": {"$ref": "#/definitions/B"}, "B": {"type": "string", "description": "b"}}
    schema = {"$ref": "#/definitions/A", "description": "mine"}
    assert member(schema, definitions=definitions)[0] == "_: {\n// mine\na: string,\n}"
    assert member({"allOf": [{"$ref": "#/definitions/B"}]}, definitions=definitions) == (
        "_: {\n// b\na: string,\n}",
        Doubt.LITTLE,
    )


def test_a_referred_list_of_types_is_no_cycle() -> None:
    definitions = {"A": {"type": ["string", "null"]}}
    assert member({"$ref": "#/$defs/A"}, **{"$defs": definitions}) == (
        "_: { a: string | null }",
        Doubt.NONE,
    )


def test_a_schema_that_contains_itself_ends() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}}}
    rendered, doubt = member({"$ref": "#/$defs/Tree"}, **{"$defs": {"Tree": tree}})
    assert rendered == "_: {\na: { child?: any },\n}"
    assert doubt is Doubt.GREAT


def test_a_deep_schema_ends() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    rendered, doubt = member(schema)
    assert rendered == f"_: {{ a: any{'[]' * 51} }}"
    assert doubt is Doubt.GREAT


def test_a_schema_that_unfolds_without_end_is_cut_off() -> None:
    definitions = {
        f"d{level}": {
            "type": "object",
            "properties": {f"p{index}": {"$ref": f"#/$defs/d{level + 1}"} for index in range(10)},
        }
        for level in range(30)
    }
    left = 20_000

    def may_spend(size: int) -> bool:
        nonlocal left
        left -= size
        return left >= 0

    parameters = {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
    typescript = TypeScript(parameters, may_spend, comments_nested=True)
    assert len(typescript.parameter()) < 20_000
    assert typescript.doubt is Doubt.GREAT


def test_keywords_never_seen_raise_a_doubt() -> None:
    rendered, doubt = member({"type": "integer", "minimum": 0, "default": 5})
    assert rendered == "_: {\na: number, // default: 5, minimum: 0\n}"
    assert doubt is Doubt.LITTLE
    assert member({"type": "array", "items": {"enum": ["x", "y"]}})[1] is Doubt.LITTLE


@pytest.mark.parametrize("junk", [None, 7, "x", [], {"type": 7}, {"type": "thing"}])
def test_junk_is_any(junk: Any) -> None:
    assert member(junk)[0] == "_: { a: any }"


@pytest.mark.parametrize(
    "junk", [{"anyOf": "x"}, {"enum": "x"}, {"$ref": "#/$defs/none"}, {"type": [7]}]
)
def test_junk_in_keywords_is_passed_over(junk: dict[str, Any]) -> None:
    assert member(junk)[0] == "_: { a: any }"
    assert render({"properties": {"a": junk}, "required": "a"})[0] == "_: { a?: any }"


def test_snapshots_of_2023_show_no_comments_within() -> None:
    schema = {"type": "array", "description": "list", "items": {"type": "string", "title": "Item"}}
    rendered, _ = render({"properties": {"a": schema}}, comments_nested=False)
    assert rendered == "_: {\n// list\na?: string[],\n}"


def test_a_comment_has_a_line_for_each_line() -> None:
    assert comment("\n  one\n\n    two  \n") == ["// one", "//", "// two"]


def test_an_answers_format_is_told_without_what_only_binds_the_answer() -> None:
    schema = {
        "type": "object",
        "title": "Scores",
        "properties": {
            "required": {"type": "integer", "default": 1, "minimum": 0, "description": "“n”"},
            "list": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/S"}},
            "either": {"anyOf": [{"type": "null", "pattern": "x"}, {"enum": [{"minimum": 1}]}]},
        },
        "required": ["required"],
        "additionalProperties": False,
        "$defs": {"S": {"const": {"default": 1}, "format": "date"}},
    }
    assert answer_format({"name": "Scores", "description": "Of games.", "schema": schema}) == (
        "# Response Formats\n\n## Scores\n\n// Of games.\n"
        '{"type":"object","title":"Scores","properties":{'
        '"required":{"type":"integer","description":"\\u201cn\\u201d"},'
        '"list":{"type":"array","items":{"$ref":"#/$defs/S"}},'
        '"either":{"anyOf":[{"type":"null"},{"enum":[{"minimum":1}]}]}},'
        '"$defs":{"S":{"const":{"default":1}}}}'
    )


def test_a_format_without_a_schema() -> None:
    assert answer_format({}) == "# Response Formats\n\n## \n\nnull"
