"""Which requests a FAQ may answer: one question that stands alone, and wants nothing but text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .normal import LONGEST
from .question import Question

if TYPE_CHECKING:
    from proxy.plugin import ChatRequest

INSTRUCTIONS = ("system", "developer")
_REFERS_BACK = re.compile(
    r"\b(?:it|its|this|that|these|those|they|them|he|she|him|her|one|ones|above|same|previous|"
    r"former|latter|instead|again|else|then)\b"
    r"|这|那|它|他|她|上面|上述|前面|刚才|刚刚|之前|另外|其他|其它|还有|继续|同样|一样"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that may be answered, and the system prompt that it comes with."""

    question: Question
    system: str


def eligible(request: ChatRequest, *, first_turn_only: bool) -> Asked | str:
    """The question of a request, or the reason why the FAQ is not asked."""
    if request.options.get("faq", "").strip().lower() == "off":
        return "header"
    if wants_fresh(request):
        return "no_cache"
    return _wants_more(request) or _question(request.messages, first_turn_only=first_turn_only)


def wants_fresh(request: ChatRequest) -> bool:
    """Does the client want an answer that nobody had before?"""
    return not cache_control(request).isdisjoint(("no-cache", "no-store"))


def cache_control(request: ChatRequest) -> frozenset[str]:
    """The directives of the client's `Cache-Control`."""
    header = request.received.headers.get("Cache-Control", "")
    return frozenset(word.strip() for word in header.lower().split(","))


def _wants_more(request: ChatRequest) -> str:
    """What the client wants that is not a plain text; empty if nothing."""
    get = request.get
    wants = (
        ("n", get("n") not in (None, 1)),
        ("tools", bool(get("tools")) and get("tool_choice") != "none"),
        ("tools", bool(get("functions")) and get("function_call") != "none"),
        ("response_format", not _is_plain(get("response_format"))),
        ("logprobs", bool(get("logprobs") or get("top_logprobs"))),
        ("prediction", get("prediction") is not None),
        ("modalities", get("audio") is not None or get("modalities") not in (None, ["text"])),
        ("continuation", get("previous_response_id") is not None),
    )
    return next((reason for reason, wanted in wants if wanted), "")


def _is_plain(response_format: Any) -> bool:
    if isinstance(response_format, Mapping):
        return response_format.get("type") == "text"
    return response_format is None


def _question(messages: Any, *, first_turn_only: bool) -> Asked | str:
    if not messages or not all(isinstance(message, Mapping) for message in messages):
        return "messages"
    *before, newest = messages
    earlier = [message for message in before if message.get("role") not in INSTRUCTIONS]
    text = text_of(newest.get("content"))
    if newest.get("role") != "user":
        return "no_question"
    if text is None or len(text) > LONGEST:
        return "not_text" if text is None else "too_long"
    question = Question(text)
    if earlier and (reason := _hangs_on(earlier, question, first_turn_only=first_turn_only)):
        return reason
    prompts = (text_of(m.get("content")) for m in before if m.get("role") in INSTRUCTIONS)
    return Asked(question, "\n".join(prompt for prompt in prompts if prompt))


def _hangs_on(earlier: list[Any], question: Question, *, first_turn_only: bool) -> str:
    """Why a question cannot be read without what was said before; empty if it can."""
    if any(m.get("role") not in ("user", "assistant") or m.get("tool_calls") for m in earlier):
        return "tools"
    if first_turn_only:
        return "earlier_turns"
    too_short = question.chinese < 4 and len(question.tokens) - question.chinese < 2
    return "refers_back" if too_short or _REFERS_BACK.search(question.joined) else ""


def text_of(content: Any) -> str | None:
    """The text of a message; None if it is more than text, or none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts = [
        part.get("text")
        for part in content
        if isinstance(part, Mapping) and part.get("type") == "text"
    ]
    whole = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
    return "\n".join(map(str, texts)) if whole else None
