"""A conversation with the real `openai` client, reported message by message as it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
from openai.types.chat import ChatCompletionMessage

from . import report

if TYPE_CHECKING:
    from openai import AsyncStream
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from .receiver import Receiver, Span
    from .running import RunningProxy

MODEL = "gpt-4o-mini"
"""What the client asks for: the embedded upstream answers to any name."""

INSTRUCTION = "You are a helpful baker."

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
WEATHER_NOW = "34 °C and sunny"


class NotRefused(Exception):
    """The upstream answered what it had to refuse."""


class Conversation:
    """Asks, and tells of each exchange what the proxy's turn log and its trace say of it."""

    def __init__(self, proxy: RunningProxy, receiver: Receiver) -> None:
        self._proxy = proxy
        self._receiver = receiver
        self._messages: list[Any] = [{"role": "system", "content": INSTRUCTION}]
        self._questions = 0
        self.traces: list[tuple[int, list[Span]]] = []
        """The trace of each exchange, with the number of the question it was about."""

    async def hold(self) -> None:
        """Hold it from begin to end: what a client may do, one thing after the other."""
        await self._warm_up()
        await self.ask("A question", "Never mention raisins. How is bread made?")
        await self.ask("A stream", "And why does it rise?", stream=True)
        await self.ask(
            "The scene `brief`, named in a header",
            "Tell me more about flour.",
            extra_headers={"x-dragoman-scene": "brief"},
        )
        await self.ask(
            "The scene `code`, found by its pattern",
            "Write a Python function that doubles a recipe.",
        )
        await self.ask("A tool", "How is the weather in Cairo?", tools=[WEATHER])
        await self.ask(
            "A chat that has become long, made shorter; what was ordered above is not forgotten",
            "What did I say of raisins?",
        )
        await self.ask_in_vain(
            "An error of the upstream, as it came",
            "Put all of this into verse.",
            response_format={"type": "verse"},
        )

    async def _warm_up(self) -> None:
        """Let everybody import and connect; nobody wants to see how long that takes."""
        for stream in (False, True):
            await self._answer(stream=stream)
            await self._receiver.trace((await self._proxy.turn()).trace_id or "")

    async def ask(self, title: str, text: str, **fields: Any) -> None:
        """Ask, call the tools that are asked for in return, and tell of it."""
        self._say(title, text)
        while calls := (await self._complete(fields)).tool_calls:
            for call in calls:
                report.message("tool", WEATHER_NOW)
                result = {"role": "tool", "tool_call_id": call.id, "content": WEATHER_NOW}
                self._messages.append(result)

    async def ask_in_vain(self, title: str, text: str, **fields: Any) -> None:
        """Ask for what the upstream refuses.  NotRefused if it does not."""
        self._say(title, text)
        try:
            await self._complete(fields)
        except openai.APIStatusError as error:
            said = error.body.get("message") if isinstance(error.body, dict) else None
            report.failure(error.status_code, said or error.message)
            await self._tell()
        else:
            raise NotRefused(f"the upstream should have refused {fields}")

    def _say(self, title: str, text: str) -> None:
        self._questions += 1
        report.title(self._questions, title)
        report.message("user", text)
        self._messages.append({"role": "user", "content": text})

    async def _complete(self, fields: dict[str, Any]) -> ChatCompletionMessage:
        """The model's next message."""
        message = await self._answer(**fields)
        self._messages.append(message.model_dump(exclude_none=True))
        if message.content:
            report.message("assistant", message.content)
        for call in message.tool_calls or ():
            if call.type == "function":
                report.message("assistant", f"{call.function.name}({call.function.arguments})")
        await self._tell()
        return message

    async def _answer(self, *, stream: bool = False, **fields: Any) -> ChatCompletionMessage:
        completions = self._proxy.client.chat.completions
        asked: dict[str, Any] = {"model": MODEL, "messages": self._messages, **fields}
        if not stream:
            completion: ChatCompletion = await completions.create(**asked)
            return completion.choices[0].message
        chunks: AsyncStream[ChatCompletionChunk] = await completions.create(**asked, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        return ChatCompletionMessage(role="assistant", content="".join(texts))

    async def _tell(self) -> None:
        turn = await self._proxy.turn()
        spans = await self._receiver.trace(turn.trace_id or "")
        self.traces.append((self._questions, spans))
        report.exchange(turn, spans)
