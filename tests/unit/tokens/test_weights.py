from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import pytest

from proxy.tokens.count import Doubt
from proxy.tokens.media import FILE_TOKENS, UNKNOWN_SIZE, Tiles
from proxy.tokens.models import Models
from proxy.tokens.weights import Scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.text import Meter

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
IMAGE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
CALL = {"id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Tells it."}}
BLOCK = (
    "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    "// Tells it.\ntype get_weather = () => any;\n\n} // namespace functions"
)
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "Score", "schema": {"type": "integer"}, "strict": True},
}
FORMAT_SECTION = '# Response Formats\n\n## Score\n\n{"type":"integer"}'


@pytest.fixture
def scale_of(meter: Meter) -> Callable[[str], Scale]:
    return lambda model: Scale(Models({}).find(model), meter)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_message_costs_its_content_its_role_and_its_frame(scale: Scale) -> None:
    weight = scale.weigh(user("hello world"))
    assert (weight.tokens, weight.text, weight.doubt) == (6, 2, Doubt.NONE)
    assert weight[3:] == (False, False, (), 0, 0)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("gpt-3.5-turbo-0301", 7), ("gpt-4o-search-preview", 2), ("gpt-5", 6), ("o3-mini", 6)],
)
def test_templates_have_their_own_frames(
    scale_of: Callable[[str], Scale], model: str, tokens: int
) -> None:
    assert scale_of(model).weigh(user("hello world")).tokens == tokens


def test_a_name_costs_a_separator_unless_it_is_the_role(scale: Scale) -> None:
    assert scale.weigh({**user("hi"), "name": "critic"}).tokens == 5 + 1 + 1
    assert scale.weigh({**user("hi"), "name": "user"}).tokens == 5 + 1


def test_reasoning_models_speak_on_a_channel(scale_of: Callable[[str], Scale]) -> None:
    said = {"role": "assistant", "content": "hello world"}
    assert scale_of("gpt-4o").weigh(said).tokens == 6
    assert scale_of("gpt-5").weigh(said).tokens == 8
    assert scale_of("o3-mini").weigh(said).tokens == 6
    assert scale_of("gpt-5").weigh(said).speaks


def test_instructions_are_known_as_such(scale: Scale) -> None:
    assert scale.weigh({"role": "system", "content": "x"}).instructs
    assert scale.weigh({"role": "developer", "content": "x"}).instructs


def test_parts_add_up(scale: Scale, tokens: Callable[[str], int]) -> None:
    parts = ["one ", {"type": "text", "text": "two"}, {"type": "refusal", "refusal": "three"}]
    weight = scale.weigh(user(parts))
    assert weight.text == tokens("one ") + tokens("two") + tokens("three")
    assert weight.doubt is Doubt.NONE


def test_a_refusal_counts_as_text(scale: Scale) -> None:
    refusal = {"role": "assistant", "content": None, "refusal": "hello world"}
    assert scale.weigh(refusal).text == 2


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "image_url", "image_url": IMAGE},
        {"type": "input_image", "image_url": IMAGE, "detail": "high"},
    ],
)
def test_an_image_of_known_size_is_nearly_exact(scale: Scale, part: dict[str, Any]) -> None:
    weight = scale.weigh(user([part]))
    assert (weight.text, weight.doubt) == (425, Doubt.LITTLE)


def test_detail_changes_the_cost_of_an_image(scale: Scale) -> None:
    part = {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}
    assert scale.weigh(user([part])).text == 85


def test_a_remote_image_is_taken_for_a_usual_one(scale: Scale) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    weight = scale.weigh(user([part]))
    assert weight.text == Tiles(85, 170).tokens(UNKNOWN_SIZE, "")
    assert weight.doubt is Doubt.GREAT


def test_sounds_and_files_are_estimated(scale: Scale) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    assert scale.weigh(user([sound]))[1:3] == (34, Doubt.GREAT)
    file = {"type": "file", "file": {"file_id": "file-1"}}
    assert scale.weigh(user([file]))[1:3] == (FILE_TOKENS, Doubt.GREAT)


@pytest.mark.parametrize(
    "odd", [None, 7, "text", [], {}, user(7), user({"a": 1}), user([7]), {"role": "x"}, {"role": 1}]
)
def test_odd_messages_are_estimated(scale: Scale, odd: Any) -> None:
    weight = scale.weigh(odd)
    assert weight.doubt is Doubt.GREAT
    assert 0 < weight.tokens < 20


def test_a_doubt_does_not_outlast_its_message(scale: Scale) -> None:
    scale.weigh(7)
    assert scale.weigh(user("hello")).doubt is Doubt.NONE


def test_a_call_costs_its_recipient_and_its_arguments(
    scale_of: Callable[[str], Scale], tokens: Callable[[str], int]
) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    called = tokens("functions.get_weather") + 2 + tokens('{"city":"Paris"}')
    assert scale_of("gpt-4o").weigh(message).tokens == 4 + called
    assert scale_of("gpt-5").weigh(message).tokens == 4 + called + 6
    assert not scale_of("gpt-5").weigh(message).speaks


def test_a_result_knows_its_call_and_its_own_name(scale: Scale) -> None:
    call = scale.weigh({"role": "assistant", "tool_calls": [CALL]}).calls
    result = scale.weigh({"role": "tool", "tool_call_id": "c1", "content": "sunny"})
    assert call == ((result.answers, 4),)
    assert result.named == 0
    assert scale.weigh({"role": "tool", "name": "get_weather", "content": "sunny"}).named == 4


def test_results_at_once_are_one_message(scale: Scale, tokens: Callable[[str], int]) -> None:
    messages = [{"content": "Mexico"}, {"content": [{"type": "text", "text": "4"}]}, {"content": 7}]
    weight = scale.results(messages)
    assert weight.text == tokens('["Mexico", "4", ""]')
    assert weight.tokens == weight.text + 4 + tokens("multi_tool_use.parallel") + 2


@pytest.mark.parametrize(("model", "reply"), [("gpt-4o", 3), ("gpt-5", 2), ("o3-mini", 2)])
def test_the_header_of_the_reply(scale_of: Callable[[str], Scale], model: str, reply: int) -> None:
    assert scale_of(model).overhead({}, None) == (reply, 0, Doubt.NONE, 0)


@pytest.mark.parametrize(
    ("model", "frame"),
    [
        ("gpt-4o", 2 + 4),  # an open header, and an instruction for the tools
        ("o3-mini", 2 + 4),
        ("gpt-5", 2 + 85),
    ],
)
def test_tools_without_an_instruction(
    scale_of: Callable[[str], Scale], tokens: Callable[[str], int], model: str, frame: int
) -> None:
    assert scale_of(model).overhead({"tools": [TOOL]}, None).tokens == frame + tokens(BLOCK)


@pytest.mark.parametrize(
    "content", ["Be terse.", [{"type": "text", "text": "Be"}, {"type": "text", "text": " terse."}]]
)
def test_tools_are_joined_to_an_instruction(
    scale: Scale, tokens: Callable[[str], int], content: Any
) -> None:
    overhead = scale.overhead({"tools": [TOOL]}, {"role": "system", "content": content})
    # ".\n\n" is one token
    assert overhead.tokens == 2 + tokens(f"Be terse.\n\n{BLOCK}") - tokens("Be terse.")
    assert overhead.tokens == 2 + tokens(f"\n\n{BLOCK}") - 1


@pytest.mark.parametrize("content", [None, "", 7, [], [7], [{"type": "image_url"}]])
def test_tools_stand_alone_after_an_instruction_without_text(
    scale: Scale, tokens: Callable[[str], int], content: Any
) -> None:
    overhead = scale.overhead({"tools": [TOOL]}, {"role": "system", "content": content})
    assert overhead.tokens == 2 + tokens(f"\n\n{BLOCK}")


def test_tools_of_reasoning_models_without_descriptions(
    scale_of: Callable[[str], Scale], tokens: Callable[[str], int]
) -> None:
    tool = {"type": "function", "function": {"name": "get_weather"}}
    block = BLOCK.replace("// Tells it.\n", "")
    assert scale_of("gpt-5").overhead({"tools": [tool]}, None).tokens == 2 + 84 + tokens(block)


def test_a_format_names_itself_in_every_answer(scale: Scale, tokens: Callable[[str], int]) -> None:
    overhead = scale.overhead({"response_format": FORMAT}, None)
    assert overhead.speech == tokens("Score") + 2
    assert overhead.tokens == 3 + overhead.speech + 4 + tokens(FORMAT_SECTION)
    assert overhead.doubt is Doubt.NONE


def test_a_format_beside_tools_leaves_the_header_open(
    scale: Scale, tokens: Callable[[str], int]
) -> None:
    overhead = scale.overhead({"tools": [TOOL], "response_format": FORMAT}, None)
    assert overhead.tokens == 2 + 4 + tokens(f"{BLOCK}\n\n{FORMAT_SECTION}")
    assert overhead.speech == tokens("Score") + 2


def test_formats_of_reasoning_models_are_estimated(scale_of: Callable[[str], Scale]) -> None:
    overhead = scale_of("gpt-5").overhead({"response_format": FORMAT}, None)
    assert (overhead.doubt, overhead.speech) == (Doubt.GREAT, 0)


@pytest.mark.parametrize("format_", [{"type": "text"}, {"type": "json_object"}, 7])
def test_other_formats_cost_nothing(scale: Scale, format_: Any) -> None:
    assert scale.overhead({"response_format": format_}, None).tokens == 3


def test_a_chosen_function_is_named(
    scale_of: Callable[[str], Scale], tokens: Callable[[str], int]
) -> None:
    settings = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    chosen = tokens("functions.get_weather") + 6
    assert scale_of("gpt-4o").overhead(settings, None).tokens == 3 + chosen
    assert scale_of("gpt-5").overhead(settings, None).tokens == 2
    assert scale_of("gpt-4o").overhead({"tool_choice": "required"}, None).tokens == 3


def test_a_function_chosen_in_the_way_of_2023(scale: Scale) -> None:
    overhead = scale.overhead({"function_call": {"name": "get_weather"}}, None)
    assert (overhead.tokens, overhead.doubt) == (3 + 2 + 4, Doubt.LITTLE)


def test_an_answer_costs_its_text(scale_of: Callable[[str], Scale]) -> None:
    assert scale_of("gpt-4o").weigh_answer({"content": "hello world"}) == 2
    assert scale_of("gpt-5").weigh_answer({"content": "hello world"}) == 11


def test_an_answer_costs_its_calls(
    scale_of: Callable[[str], Scale], tokens: Callable[[str], int]
) -> None:
    called = tokens("functions.get_weather") + tokens('{"city":"Paris"}')
    assert scale_of("gpt-4o").weigh_answer({"tool_calls": [CALL]}) == called + 6
    assert scale_of("gpt-5").weigh_answer({"tool_calls": [CALL]}) == called + 15
    twice = scale_of("gpt-4o").weigh_answer({"tool_calls": [CALL, CALL]})
    use = '{"recipient_name":"functions.get_weather","parameters":{"city":"Paris"}}'
    assert twice == tokens(f'{{"tool_uses":[{use},{use}]}}') + 10
