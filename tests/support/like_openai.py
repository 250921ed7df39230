"""An upstream that speaks like OpenAI: the shapes of its answers, by what the request asks for.

The model's name chooses what a chat completion holds.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from .upstream import Call

VECTORS = ([0.25, -1.5, 3.0], [1.0, 2.0, -0.5])
SPEECH = bytes(range(256)) * 1_000
EVENT_STREAM = "text/event-stream; charset=utf-8"
LIMITS = (
    ("x-request-id", "req_like_openai"),
    ("openai-processing-ms", "12"),
    ("x-ratelimit-remaining-requests", "9999"),
)

CALLS = [
    {"id": "call_a", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
    {"id": "call_b", "function": {"name": "weather", "arguments": '{"city":"Zürich 🎉"}'}},
]
PERSON = '{"name":"Ada","age":36}'
LOGPROBS = {
    "content": [
        {"token": "Hi", "bytes": [72, 105], "logprob": -0.0001, "top_logprobs": []},
        {"token": "!", "bytes": [33], "logprob": -1.5e-05, "top_logprobs": []},
    ],
    "refusal": None,
}

# What the answers of a model hold: one message for each choice.
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "plain": [{"content": "Hi! ünï 🎉 日本"}],
    "many": [{"content": "one"}, {"content": "two"}, {"content": "three"}],
    "tools": [{"content": None, "tool_calls": [{**c, "type": "function"} for c in CALLS]}],
    "logprobs": [{"content": "Hi!", "logprobs": LOGPROBS}],
    "refusal": [{"content": None, "refusal": "I cannot help with that."}],
    "reasoning": [{"content": "4", "reasoning_content": "2 + 2 … 🧠", "vendor": {"x": 1.0}}],
    "json": [{"content": PERSON}],
    "annotated": [{"content": "see", "annotations": [{"type": "url_citation", "url": "u"}]}],
    "audio": [{"content": None, "audio": {"id": "a", "data": "UklGRg==", "transcript": "Hi"}}],
}


async def speak(call: Call) -> None:
    """The script: hand it to the `upstream` fixture."""
    path = call.target.partition("?")[0].removeprefix("/v1")
    match [call.method, *path.strip("/").split("/")]:
        case ["POST", *_, "chat", "completions"]:
            await _chat(call)
        case ["POST", "responses"]:
            await _responses(call)
        case ["POST", *_, "embeddings"]:
            await _json(call, _embeddings(call.json))
        case ["POST", "files"]:
            await _json(call, _file(call))
        case ["POST", "audio", "speech"] | ["GET", "files", _, "content"]:
            await call.answer(SPEECH, content_type="audio/mpeg", headers=LIMITS)
        case ["POST", "audio", "transcriptions"]:
            await _json(call, {"text": f"{len(call.body)} bytes"})
        case ["GET", "models"]:
            await _json(call, _models(call.target))
        case ["GET", "models", status] if status.isdigit():
            await _error(call, int(status))
        case ["GET", "models", name]:
            await _json(call, {"id": name, "object": "model", "created": 1, "owned_by": "us"})
        case ["DELETE", "files", name]:
            await _json(call, {"id": name, "object": "file", "deleted": True})
        case _:
            await _error(call, 404)


async def _json(call: Call, body: Any) -> None:
    await call.answer(msgspec.json.encode(body), headers=LIMITS)


async def _error(call: Call, status: int) -> None:
    error = {"message": f"no {status}", "type": "some_error", "param": "p", "code": f"c{status}"}
    headers = (*LIMITS, ("retry-after", "7"))
    body = msgspec.json.encode({"error": error})
    await call.answer(body, status=f"{status} Whatever", headers=headers)


# ---- chat completions


async def _chat(call: Call) -> None:
    asked = call.json
    messages = MESSAGES[asked["model"]]
    frame = {"id": "chatcmpl-1", "created": 1_760_000_000, "model": f"{asked['model']}-2026"}
    if asked.get("stream"):
        await call.start_stream(*LIMITS)
        for data in _events(frame, messages, asked):
            await call.chunk(data)
        await call.end_chunks()
    else:
        choices = [_choice(index, message) for index, message in enumerate(messages)]
        body = {**frame, "object": "chat.completion", "choices": choices, "usage": _USAGE}
        await _json(call, body)


_USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def _reason(message: dict[str, Any]) -> str:
    return "tool_calls" if "tool_calls" in message else "stop"


def _choice(index: int, message: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in message.items() if key != "logprobs"}
    return {
        "index": index,
        "message": {"role": "assistant", "refusal": None, **said},
        "logprobs": message.get("logprobs"),
        "finish_reason": _reason(message),
    }


def _events(frame: dict[str, Any], messages: list[dict[str, Any]], asked: Any) -> list[bytes]:
    usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    frame = {**frame, "object": "chat.completion.chunk", "system_fingerprint": "fp"}
    null = {"usage": None} if usage else {}
    deltas = [
        {"index": index, "logprobs": None, "finish_reason": None, **delta}
        for index, message in enumerate(messages)
        for delta in _deltas(message)
    ]
    if len(messages) > 1:  # choices come interleaved
        deltas.sort(key=lambda delta: len(str(delta)))
    deltas += [
        {"index": index, "delta": {}, "logprobs": None, "finish_reason": _reason(message)}
        for index, message in enumerate(messages)
    ]
    events = [{**frame, "choices": [delta], **null} for delta in deltas]
    if usage:
        events.append({**frame, "choices": [], "usage": _USAGE})
    return [b"data: " + msgspec.json.encode(e) + b"\n\n" for e in events] + [b"data: [DONE]\n\n"]


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message in pieces, as a stream brings it."""
    pieces: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": None}}]
    for key, value in message.items():
        if key == "tool_calls":
            pieces += [{"delta": {"tool_calls": [part]}} for part in _tool_parts(value)]
        elif key == "logprobs":
            pieces += [
                {"delta": {"content": ""}, "logprobs": {"content": [token], "refusal": None}}
                for token in value["content"]
            ]
        elif isinstance(value, str):
            pieces += [{"delta": {key: character}} for character in value]
        elif value is not None:
            pieces.append({"delta": {key: value}})
    return pieces


def _tool_parts(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        function = call["function"]
        first = {"index": index, **call, "function": {"name": function["name"], "arguments": ""}}
        arguments = function["arguments"]
        cuts = [arguments[at : at + 3] for at in range(0, len(arguments), 3)]
        parts += [first, *({"index": index, "function": {"arguments": cut}} for cut in cuts)]
    return parts


# ---- the other endpoints


async def _responses(call: Call) -> None:
    text = {"type": "output_text", "text": "Hi!", "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_760_000_000.0,
        "model": "m",
        "status": "completed",
        "output": [{**item, "content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if not call.json.get("stream"):
        await _json(call, response)
        return
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    empty = {**response, "status": "in_progress", "output": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": empty},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **where, "part": {**text, "text": ""}},
        {"type": "response.output_text.delta", **where, "delta": "Hi", "logprobs": []},
        {"type": "response.output_text.delta", **where, "delta": "!", "logprobs": []},
        {"type": "response.output_text.done", **where, "text": "Hi!", "logprobs": []},
        {"type": "response.completed", "response": response},
    ]
    await call.start_stream(*LIMITS)
    for number, event in enumerate(events):
        data = msgspec.json.encode({**event, "sequence_number": number})
        await call.chunk(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data))
    await call.end_chunks()


def _embeddings(asked: Any) -> dict[str, Any]:
    as_text = asked.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack("<3f", *vector)).decode()
            if as_text
            else vector,
        }
        for index, vector in enumerate(VECTORS)
    ]
    return {"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 2}}


def _file(call: Call) -> dict[str, Any]:
    """What came, so that a test can see it: the parts of the form."""
    boundary = (call.header("content-type") or "").partition("boundary=")[2].encode()
    parts = call.body.split(b"--" + boundary)[1:-1]
    content = max((part.partition(b"\r\n\r\n")[2][:-2] for part in parts), key=len)
    return {
        "id": "file-1",
        "object": "file",
        "bytes": len(content),
        "created_at": 1,
        "filename": base64.b64encode(content[:300]).decode(),
        "purpose": "assistants",
        "status": "processed",
    }


def _models(target: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": target, "object": "model", "created": 1}]}
