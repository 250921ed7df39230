"""Weighs the parts of a chat completion request: its messages, and what stands around them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from . import media, tools
from .count import Doubt
from .lenient import mapping, text
from .memo import digest, salted
from .schema import answer_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .models import Model
    from .text import Meter

# Fitted to recorded usage, like all that a template holds.
_RECIPIENT = 2  # what a recipient costs beside its name, and the name of a tool that answers
_FORMAT = 2  # what a format costs beside its name, in the header of an answer
_CHOSEN_FUNCTION = 6  # what `tool_choice` costs beside the function's name
_CHOSEN_FUNCTION_2023 = 4  # `function_call` of old: github.com/hmarr/openai-chat-tokens
_OWN_TOOL_BLOCK = 85  # a message around the tools, and what it says of channels

_INSTRUCTING = frozenset({"system", "developer"})
_ROLES = _INSTRUCTING | {"user", "assistant", "tool", "function"}
_ROLE = 1  # each of them is one token in both vocabularies

_CALL = salted(b"call")

# Kinds of content, in Chat Completions and as Responses calls them.
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_IMAGES = frozenset({"image_url", "input_image"})

_MESSAGE_WORK = 50  # characters that are counted in the time it takes to read an empty message


class Weight(NamedTuple):
    """What a message costs by itself, and what its neighbours must know of it; no text."""

    tokens: int
    text: int  # of these, the content
    doubt: Doubt = Doubt.NONE
    instructs: bool = False
    speaks: bool = False
    calls: tuple[tuple[int, int], ...] = ()  # digests, and what each name costs a result
    answers: int = 0  # the digest of the call whose result this is
    named: int = 0  # what its own name costs a result whose call is unknown


class Overhead(NamedTuple):
    """What a request costs beside its messages."""

    tokens: int
    text: int = 0
    doubt: Doubt = Doubt.NONE
    speech: int = 0  # on top of each text of an assistant: the header that names its format


class Scale:
    """Weighs for one model, with the meter of one request."""

    def __init__(self, model: Model, meter: Meter) -> None:
        self._template = model.template
        self._images = model.images
        self._tokens = meter.tokens
        self._may_spend = meter.may_spend
        self._doubt = Doubt.NONE

    def weigh(self, message: Any) -> Weight:
        """Weigh one message by itself."""
        self._may_spend(_MESSAGE_WORK)
        self._doubt = Doubt.NONE
        if not isinstance(message, dict):
            tokens = self._odd(message)
            return Weight(tokens, tokens, self._doubt)
        role = text(message, "role")
        frame = self._template.message + self._role(role)
        content = self._content(message.get("content")) + self._tokens(text(message, "refusal"))
        name = text(message, "name")
        if role == "tool":
            answers = _digest(text(message, "tool_call_id"))
            named = self._recipient(name) if name else 0
            return Weight(frame + content, content, self._doubt, answers=answers, named=named)
        frame += self._name(name, role)
        if made := tools.calls(message):
            return self._calls(made, frame, content)
        speaks = role == "assistant"
        frame += self._template.speech * speaks
        return Weight(frame + content, content, self._doubt, role in _INSTRUCTING, speaks)

    def results(self, messages: Sequence[Any]) -> Weight:
        """Weigh the results of calls made at once: one message to the model."""
        array, doubt = tools.results([_plain(message.get("content")) for message in messages])
        content = self._tokens(array)
        frame = self._template.message + _ROLE + self._recipient(tools.PARALLEL)
        return Weight(frame + content, content, doubt)

    def overhead(self, settings: Mapping[str, Any], instruction: Any) -> Overhead:
        """Weigh what stands around the messages; the first of them, if it is an instruction."""
        self._doubt = Doubt.NONE
        tokens = self._template.reply + self._choice(settings)
        sections: list[str] = []
        own_block = speech = 0
        if namespace := tools.namespace(settings, self._may_spend, self._template):
            self._add_doubt(namespace.doubt)
            if self._template.own_tool_block:
                own_block = self._tokens(namespace.text)
                tokens += _OWN_TOOL_BLOCK - (not namespace.is_described)
            else:
                sections.append(namespace.text)
                tokens -= self._template.chooses_recipient
        if schema := _format(settings):
            sections.append(answer_format(schema))
            speech = self._format_name(text(schema, "name"))
            tokens += 0 if namespace else speech  # with tools, the answer may be a call
        content = own_block + self._joined(sections, instruction)
        return Overhead(tokens + content, content, self._doubt, speech)

    def weigh_answer(self, message: Mapping[str, Any]) -> int:
        """Weigh an answer of the model: its text or its calls, as `completion_tokens` has it."""
        if made := tools.calls(message):
            return self._calls(made, self._template.answering_call, 0).tokens
        return self._template.answer + self._content(message.get("content"))

    def _calls(self, made: Sequence[tools.Call], frame: int, content: int) -> Weight:
        content += self._tokens(tools.arguments(made))
        frame += self._template.call + self._recipient(tools.recipient(made))
        calls = tuple((_digest(call.id), self._recipient(call.name)) for call in made)
        return Weight(frame + content, content, self._doubt, calls=calls)

    def _role(self, role: str) -> int:
        if role in _ROLES:
            return _ROLE
        self._add_doubt(Doubt.GREAT)
        return self._tokens(role)

    def _recipient(self, name: str) -> int:
        return self._tokens(name) + _RECIPIENT

    def _name(self, name: str, role: str) -> int:
        # A name that repeats the role costs no separator; five recorded requests have one.
        return self._tokens(name) + self._template.name_field * (name != role) if name else 0

    def _content(self, content: Any) -> int:
        if isinstance(content, str):
            return self._tokens(content)
        if isinstance(content, list):
            return sum(map(self._part, content))
        return 0 if content is None else self._odd(content)

    def _part(self, part: Any) -> int:
        if isinstance(part, str):
            return self._tokens(part)
        if not isinstance(part, dict):
            return self._odd(part)
        kind = text(part, "type")
        if kind in _TEXTS:
            return self._tokens(text(part, _TEXTS[kind]))
        if kind in _IMAGES:
            return self._image(part)
        self._add_doubt(Doubt.GREAT)
        audio = text(mapping(part, "input_audio"), "data")
        return media.audio_tokens(audio) if audio else media.FILE_TOKENS

    def _image(self, part: dict[str, Any]) -> int:
        self._may_spend(_MESSAGE_WORK)
        image = mapping(part, "image_url")
        url = text(image, "url") or text(part, "image_url")
        detail = text(image, "detail") or text(part, "detail")
        size = media.image_size(url)
        self._add_doubt(Doubt.LITTLE if size else Doubt.GREAT)
        return self._images.tokens(size or media.UNKNOWN_SIZE, detail)

    def _odd(self, value: Any) -> int:
        self._add_doubt(Doubt.GREAT)
        return self._tokens(json.dumps(value))

    def _add_doubt(self, doubt: Doubt) -> None:
        self._doubt = max(self._doubt, doubt)

    def _choice(self, settings: Mapping[str, Any]) -> int:
        chosen = text(mapping(mapping(settings, "tool_choice"), "function"), "name")
        if chosen and self._template.names_chosen_function:
            return self._tokens(f"functions.{chosen}") + _CHOSEN_FUNCTION
        if chosen := text(mapping(settings, "function_call"), "name"):
            self._add_doubt(Doubt.LITTLE)
            return self._tokens(chosen) + _CHOSEN_FUNCTION_2023
        return 0

    def _format_name(self, name: str) -> int:
        if self._template.names_format:
            return self._tokens(name) + _FORMAT
        self._add_doubt(Doubt.GREAT)  # not in recorded usage
        return 0

    def _joined(self, sections: list[str], instruction: Any) -> int:
        """Tokens that sections add to the instruction, or those of an instruction of their own."""
        if not sections:
            return 0
        if instruction is None:
            frame = self._template.message + _ROLE
            return frame + self._tokens("\n\n".join(sections))
        # The end of the instruction and the empty line behind it may share a token.
        end = _end(instruction.get("content"))
        return self._tokens("\n\n".join([end, *sections])) - self._tokens(end)


def _format(settings: Mapping[str, Any]) -> dict[str, Any]:
    asked = mapping(settings, "response_format")
    return mapping(asked, "json_schema") if asked.get("type") == "json_schema" else {}


def _digest(call_id: str) -> int:
    return digest(_CALL, call_id.encode("utf-8", "surrogatepass")) if call_id else 0


def _end(content: Any) -> str:
    return _plain(content[-1:] if isinstance(content, list) else content)


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(text(part, "text") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
