"""What clients ask and what the upstream answers: always the same bytes.

Prompts are of three sizes, and of words that real tokenizers know.  An answer that comes in one
piece, and the events of a stream, are what a proxy has to hand on unchanged, to the last byte.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

MODEL = "gpt-4o-mini"
OTHER_MODEL = "gpt-4"
"""Its vocabulary is the other one."""

_ENGLISH = (
    "the model answers a question about shipping costs and returns for customer order number "
    "please explain how refund policy works when an item arrives damaged because our warehouse "
    "team needs photos before they can process it"
)
_CHINESE = (
    "的 用户 问题 我们 订单 可以 退款 需要 请问 什么 时候 发货 地址 修改 谢谢 客服 系统 因为 "
    "但是 如果 收到 商品 质量 支付 方式"
)
_PIECES = ("Hello", ", wor", "ld — ", "世界", '\n"q" ', "😀", " token", " end.")

# What the openai client sends beside the length of its body.
_HEADERS = """\
Host: 127.0.0.1
Accept: application/json
Accept-Encoding: gzip, deflate
Connection: keep-alive
Content-Type: application/json
User-Agent: OpenAI/Python 2.8.1
X-Stainless-Lang: python
X-Stainless-Package-Version: 2.8.1
X-Stainless-OS: Linux
X-Stainless-Arch: x64
X-Stainless-Runtime: CPython
X-Stainless-Runtime-Version: 3.11.7
Authorization: Bearer sk-benchmark
X-Stainless-Async: async:asyncio
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
"""


@dataclass(frozen=True)
class Prompt:
    """A chat of so many messages of so many words each; `tokens` is what OpenAI would count."""

    name: str
    messages: int
    words: int
    tokens: int
    chinese: bool = False
    """Every other turn is Chinese."""

    def body(self, **fields: Any) -> dict[str, Any]:
        pick = random.Random(7)
        messages = [{"role": "system", "content": "You are a helpful assistant."}]
        for index in range(1, self.messages):
            chinese = self.chinese and index % 4 < 2
            words = pick.choices((_CHINESE if chinese else _ENGLISH).split(), k=self.words)
            text = "".join(words) + "。" if chinese else " ".join(words).capitalize() + "."
            messages.append({"role": "user" if index % 2 else "assistant", "content": text})
        return {"model": MODEL, "messages": messages, "temperature": 0.2, **fields}


SMALL = Prompt("small", messages=3, words=15, tokens=53)
MEDIUM = Prompt("8k", messages=40, words=198, tokens=7_934)
LARGE = Prompt("32k", messages=200, words=154, tokens=32_792, chinese=True)


def request(body: dict[str, Any]) -> bytes:
    """The whole HTTP request that asks it."""
    encoded = msgspec.json.encode(body)
    head = f"POST /v1/chat/completions HTTP/1.1\n{_HEADERS}Content-Length: {len(encoded)}\n\n"
    return head.replace("\n", "\r\n").encode() + encoded


def _usage(prompt_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 17,
        "total_tokens": prompt_tokens + 17,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


@cache
def answer(prompt: Prompt) -> bytes:
    """The body of an answer in one piece."""
    message = {
        "role": "assistant",
        "content": "This is the fixed answer of the mock upstream. 世界",
        "refusal": None,
    }
    return msgspec.json.encode(
        {
            "id": "chatcmpl-mock0001",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": _usage(prompt.tokens),
            "system_fingerprint": "fp_mock",
        }
    )


@cache
def events(chunks: int, *, usage: bool) -> tuple[bytes, ...]:
    """A stream: its role, so many pieces of text, and in one its end, usage and `[DONE]`."""
    frame = {
        "id": "chatcmpl-mock0001",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": MODEL,
        "system_fingerprint": "fp_mock",
    }

    def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**frame, "choices": [choice], **({"usage": None} if usage else {})})

    end = event({}, "stop")
    if usage:
        end += _event({**frame, "choices": [], "usage": _usage(SMALL.tokens)})
    return (
        event({"role": "assistant", "content": "", "refusal": None}),
        *(event({"content": _PIECES[index % len(_PIECES)]}) for index in range(chunks)),
        end + b"data: [DONE]\n\n",
    )


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
