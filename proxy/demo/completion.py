"""The answer to a chat completion in its two forms: in one piece, or as the chunks of a stream."""

from __future__ import annotations

import re
import time
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from proxy.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from proxy.tokens import Tokenizer

    from .bodies import Chat

    Speak: TypeAlias = Callable[[Mapping[str, Any], int], dict[str, Any]]
    Delta: TypeAlias = tuple[dict[str, Any], str | None, str]
    """What a chunk adds to a message, why it ends the message, and the text in it."""

FINGERPRINT = "fp_demo"
_PIECE = re.compile(r"\s*\w+|\s*[^\w\s]+|\s+")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the `n` answers."""

    message: dict[str, Any]
    finish_reason: str

    @property
    def text(self) -> str:
        return self.message.get("content") or ""


async def complete(
    request: Chat, data: bytes, body: Mapping[str, Any], speak: Speak, tokens: Tokenizer
) -> Completion:
    """Let the model speak, and end it where the request says; `data` is the body as it came."""
    choices = [
        await _ended(speak(body, number), request, tokens) for number in range(request.n or 1)
    ]
    prompt = await tokens.count(data, model=request.model)
    said = [await tokens.count_completion(c.message, request.model) for c in choices]
    return Completion(request, data, choices, Usage(prompt.tokens, sum(said)))


async def _ended(message: dict[str, Any], request: Chat, tokens: Tokenizer) -> Choice:
    """Cut a message at a stop sequence, and at the limit of tokens."""
    if message.get("tool_calls"):
        return Choice(message, "tool_calls")
    text = whole = message.get("content") or ""
    for stop in request.stop or ():
        text = text.partition(stop)[0] if stop else text
    limit = request.max_completion_tokens or request.max_tokens
    if limit is None:
        return Choice({**message, "content": text} if text != whole else message, "stop")
    cut = await _within(limit, text, request.model, tokens)
    return Choice({**message, "content": cut}, "stop" if cut == text else "length")


async def _within(limit: int, text: str, model: str, tokens: Tokenizer) -> str:
    """As much of the beginning of a text as costs so many tokens."""
    pieces = _PIECE.findall(text)
    fits, above = 0, len(pieces) + 1
    while above - fits > 1:
        middle = (fits + above) // 2
        beginning = {"role": "assistant", "content": "".join(pieces[:middle])}
        if await tokens.count_completion(beginning, model) <= limit:
            fits = middle
        else:
            above = middle
    return "".join(pieces[:fits])


class Completion:
    """A chat completion.  Its id follows from the request, as its text does."""

    def __init__(self, request: Chat, data: bytes, choices: list[Choice], usage: Usage) -> None:
        self._request = request
        self._choices = choices
        self._usage = usage
        self._frame = {
            "id": f"chatcmpl-{blake2b(data, digest_size=15).hexdigest()}",
            "created": time.time_ns() // 1_000_000_000,
            "model": request.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }

    def body(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [
            {
                "index": index,
                "message": choice.message,
                "logprobs": self._logprobs(_PIECE.findall(choice.text)),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(self._choices)
        ]
        body = {**self._frame, "object": "chat.completion", "choices": choices}
        return {**body, "usage": self._spent()} if self._request.demo.usage else body

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The answer as a stream: the choices take turns."""
        options = self._request.stream_options
        with_usage = options is not None and options.include_usage and self._request.demo.usage
        frame = {**self._frame, "object": "chat.completion.chunk"}
        if with_usage:
            frame["usage"] = None
        for turn in zip_longest(*(_deltas(choice) for choice in self._choices)):
            for index, step in enumerate(turn):
                if step is None:
                    continue
                delta, finish_reason, text = step
                choice = {
                    "index": index,
                    "delta": delta,
                    "logprobs": self._logprobs([text] if text else []),
                    "finish_reason": finish_reason,
                }
                yield {**frame, "choices": [choice]}
        if with_usage:
            yield {**frame, "choices": [], "usage": self._spent()}

    def _spent(self) -> dict[str, Any]:
        return {
            **self._usage.body(),
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _logprobs(self, pieces: list[str]) -> dict[str, Any] | None:
        """Made up, but for each text always the same; a word takes the place of a token."""
        if not self._request.logprobs or not pieces:
            return None
        content = []
        for piece in pieces:
            likely = -(zlib.crc32(piece.encode()) % 1_000) / 1_000
            others = [
                _logprob(f"{piece}{'?' * rank}", likely - rank)
                for rank in range(self._request.top_logprobs or 0)
            ]
            content.append({**_logprob(piece, likely), "top_logprobs": others})
        return {"content": content, "refusal": None}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _deltas(choice: Choice) -> Iterator[Delta]:
    message = choice.message
    calls = message.get("tool_calls") or ()
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    yield {"role": "assistant", **rest, "content": None if calls else ""}, None, ""
    for piece in _PIECE.findall(choice.text):
        yield {"content": piece}, None, piece
    for index, call in enumerate(calls):
        function = call["function"]
        begun = {**call, "function": {**function, "arguments": ""}}
        yield {"tool_calls": [{"index": index, **begun}]}, None, ""
        for piece in _PIECE.findall(function["arguments"]):
            fragment = {"index": index, "function": {"arguments": piece}}
            yield {"tool_calls": [fragment]}, None, ""
    yield {}, choice.finish_reason, ""
