"""What a model's name says: its vocabulary, its chat template, its price of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

from . import media
from .memo import salted
from .vocabulary import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Template:
    """How a family of models frames the messages of a chat.

    All numbers were fitted to recorded usage, unless another source is named.
    """

    name: str
    message: int = 3  # <|im_start|>role<|im_sep|>...<|im_end|>
    name_field: int = 1  # what a message's `name` costs beside its text
    reply: int = 3  # <|im_start|>assistant<|im_sep|>
    speech: int = 0  # <|channel|>final of an assistant's text
    call: int = 0  # <|channel|>commentary and <|constrain|>json of a function call
    answer: int = 0  # what an answer costs beside its text
    answering_call: int = 4  # what an answer costs beside its call
    chooses_recipient: bool = True  # offered tools, the answer's header is left open: one less
    own_tool_block: bool = False  # tools get a message of their own
    names_chosen_function: bool = True  # `tool_choice` puts the function's name into the header
    names_format: bool = True  # an answer's header carries the name of its JSON format
    comments_nested: bool = True  # tools show what is said of schemas within schemas


_CHATML = Template("chatml")
# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
_CHATML_0301 = Template("chatml-0301", message=4, name_field=-1)
# https://github.com/hmarr/openai-chat-tokens/issues/17
_CHATML_0613 = Template("chatml-0613", comments_nested=False)
# Usage has the contents alone: the one token of a role is taken back.
_SEARCH = Template("search", message=-1, reply=0)
# Reasoning models choose a channel before they speak: the header of their answer ends early.
_O3_MINI = Template("o3-mini", reply=2, chooses_recipient=False)
_HARMONY = Template(
    "harmony",
    reply=2,
    speech=2,
    call=6,
    answer=9,
    answering_call=7,
    chooses_recipient=False,
    own_tool_block=True,
    names_chosen_function=False,
    names_format=False,
)

_TEMPLATES = [
    (re.compile(r"gpt-3\.5-turbo-0301"), _CHATML_0301),
    (re.compile(r"gpt-(?:3\.5|4)-.*0613"), _CHATML_0613),
    (re.compile(r"gpt-.*-search"), _SEARCH),
    (re.compile(r"o3-mini"), _O3_MINI),
    (re.compile(r"gpt-[5-9]|o1(?!-mini|-preview)|o[3-9]|gpt-oss|codex"), _HARMONY),
]
_CL100K = re.compile(r"gpt-3\.5|gpt-35|gpt-4(?![o.\d])|text-embedding|davinci-002|babbage-002")
# The models whose formula is known from recorded usage; speech and search models add to it.
_RECORDED = re.compile(
    r"(?:gpt-(?:3\.5|35)-turbo|gpt-4|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5(?:\.\d+)?|chatgpt-4o|o1|o3|o4-mini)"
    r"(?![\w.])"
)
_UNRECORDED = re.compile(r"audio|realtime|transcribe|tts|image|research|o1-(?:mini|preview)")


@dataclass(frozen=True, slots=True)
class Model:
    """How the tokens of a model are counted."""

    encoding: str
    template: Template
    images: media.ImageRule
    is_recorded: bool  # else the formula is a guess
    salt: bytes  # of digests: the same for models that count the same


class Models:
    """Finds models by name: OpenAI's names, and the operator's patterns before them.

    A pattern is an exact name or a glob.  It stands for a vocabulary ("o200k_base"), or for an
    OpenAI model that is behind another name, as in Azure's deployments ("gpt-4o").
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        for pattern, meaning in patterns.items():
            if meaning not in ENCODINGS and not _is_recorded(_bare(meaning)):
                known = ", ".join(sorted(ENCODINGS))
                raise ValueError(
                    f"{pattern!r} stands for {meaning!r}: neither an OpenAI model nor {known}."
                )
        self._patterns = dict(patterns)
        self._found = lru_cache(256)(self._find)

    def find(self, name: str) -> Model:
        """Tell how this model counts; every name gets an answer."""
        return self._found(name[:200])  # a body may say what it likes, and the cache keeps it

    def _find(self, name: str) -> Model:
        meaning = self._meaning(name)
        if meaning in ENCODINGS:
            return _model(_bare(name), meaning)
        bare = _bare(name if meaning is None else meaning)
        return _model(bare, "cl100k_base" if _CL100K.match(bare) else "o200k_base")

    def _meaning(self, name: str) -> str | None:
        if name in self._patterns:
            return self._patterns[name]
        return next(
            (meaning for pattern, meaning in self._patterns.items() if fnmatchcase(name, pattern)),
            None,
        )


def _model(bare: str, encoding: str) -> Model:
    template = next((known for pattern, known in _TEMPLATES if pattern.match(bare)), _CHATML)
    images = media.image_rule(bare)
    salt = salted(f"{encoding} {template.name} {images}".encode())
    return Model(encoding, template, images, _is_recorded(bare), salt)


def _bare(name: str) -> str:
    # without a provider ("openai/gpt-4o") and the mark of a tuned model ("ft:gpt-4o:acme::8Xyz")
    return name.lower().rpartition("/")[2].removeprefix("ft:")


def _is_recorded(bare: str) -> bool:
    return bool(_RECORDED.match(bare)) and not _UNRECORDED.search(bare)
