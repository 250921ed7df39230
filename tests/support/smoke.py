"""What any version of the openai client does: run with its interpreter, a base URL, nothing else.

It says one line, and leaves with 0, if all of it works.
"""

import asyncio
import sys
from typing import Any

import openai

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def synchronous(base_url: str) -> None:
    client: Any = openai.OpenAI(base_url=base_url, api_key="sk-x", max_retries=0)
    chat = client.chat.completions
    answer = chat.create(model="plain", messages=MESSAGES)
    text = answer.choices[0].message.content
    stream = chat.create(model="plain", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
    raw = chat.with_raw_response.create(model="plain", messages=MESSAGES)
    assert raw.headers["x-request-id"] == "req_like_openai"
    assert raw.parse() == answer
    assert len(client.embeddings.create(model="e", input="a").data[0].embedding) == 3
    assert client.files.create(file=b"x" * 100_000, purpose="assistants").bytes == 100_000
    assert len(client.audio.speech.create(model="t", voice="alloy", input="Hi").content) == 256_000
    events = client.responses.create(model="m", input="Hi", stream=True)
    assert [event.type for event in events][-1] == "response.completed"
    try:
        client.models.retrieve("429")
    except openai.RateLimitError:
        pass
    else:
        raise AssertionError("no error")


async def asynchronous(base_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-x", max_retries=0) as client:
        async with client.chat.completions.stream(model="tools", messages=MESSAGES) as stream:
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls or []
        assert [call.id for call in calls] == ["call_a", "call_b"]


if __name__ == "__main__":
    synchronous(sys.argv[1])
    asyncio.run(asynchronous(sys.argv[1]))
    sys.stdout.write(f"openai {openai.__version__} is served\n")
