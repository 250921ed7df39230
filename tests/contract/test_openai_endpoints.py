"""The other endpoints with the real openai client: the proxy gives it what the upstream would."""

from __future__ import annotations

import base64
import io
import os

import pytest

from tests.support.like_openai import SPEECH, VECTORS


async def test_embeddings_come_as_numbers_and_as_base64(both):
    async def use(client):
        by_default = await client.embeddings.create(model="e", input=["a", "b"])
        plain = await client.embeddings.create(model="e", input="a", encoding_format="float")
        packed = await client.embeddings.create(model="e", input="a", encoding_format="base64")
        return [[each.embedding for each in answer.data] for answer in (by_default, plain, packed)]

    by_default, plain, packed = await both.ask(use)
    assert by_default == plain == list(VECTORS)
    assert len(base64.b64decode(packed[0])) == 12


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
async def test_a_file_is_uploaded_as_a_form(both, size):
    content = os.urandom(size)

    async def use(client):
        return await client.files.create(file=("ü n.jsonl", content), purpose="assistants")

    file = await both.ask(use)
    assert file.bytes == max(size, len(b"assistants"))
    assert size < 100 or base64.b64decode(file.filename) == content[:300]


async def test_a_file_is_uploaded_from_an_open_file(both):
    content = os.urandom(500_000)
    file = await both.ask_sync(
        lambda client: client.files.create(file=io.BytesIO(content), purpose="assistants")
    )
    assert file.bytes == len(content)


async def test_a_file_is_downloaded_and_deleted(both):
    async def use(client):
        content = await client.files.content("file-1")
        return content.content, (await client.files.delete("file-1")).deleted

    assert await both.ask(use) == (SPEECH, True)


async def test_speech_is_binary(both):
    async def use(client):
        speech = await client.audio.speech.create(model="tts", voice="alloy", input="Hi")
        return speech.content, speech.response.headers["content-type"]

    assert await both.ask(use) == (SPEECH, "audio/mpeg")


async def test_speech_is_streamed(both, tmp_path):
    async def use(client):
        create = client.audio.speech.with_streaming_response.create
        async with create(model="tts", voice="alloy", input="Hi") as speech:
            return b"".join([part async for part in speech.iter_bytes(1_024)])

    assert await both.ask(use) == SPEECH


async def test_sound_is_transcribed(both):
    async def use(client):
        sound = ("a.wav", SPEECH, "audio/wav")
        answer = await client.audio.transcriptions.create(model="whisper-1", file=sound)
        return int(answer.text.removesuffix(" bytes")) > len(SPEECH)

    assert await both.ask(use)


async def test_models_are_listed_and_named_in_odd_ways(both):
    async def use(client):
        names = ["gpt-4o", "ft:gpt-4o:org::id", "org/model", "a+b c"]
        listed = [model.id async for model in client.models.list(extra_query={"a": "b/c+d"})]
        return [(await client.models.retrieve(name)).id for name in names], listed

    _, listed = await both.ask(use)
    assert listed == ["/v1/models?a=b%2Fc%2Bd"]


async def test_responses_and_their_events(both):
    async def use(client):
        answer = await client.responses.create(model="m", input="Hi")
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        return answer.output_text, [event.model_dump() async for event in stream]

    text, events = await both.ask(use)
    assert text == "Hi!"
    assert [event["sequence_number"] for event in events] == list(range(7))
    assert events[3]["type"] == "response.output_text.delta"


async def test_the_stream_helper_of_responses(both):
    async def use(client):
        async with client.responses.stream(model="m", input="Hi") as stream:
            kinds = [event.type async for event in stream]
            return kinds, (await stream.get_final_response()).output_text

    kinds, text = await both.ask(use)
    assert kinds[-1] == "response.completed"
    assert text == "Hi!"


async def test_a_path_of_the_clients_own_making(both):
    async def use(client):
        body = {"input": ["a"], "encoding_format": "float"}
        return await client.post("/embeddings", body=body, cast_to=object)

    assert (await both.ask(use))["data"][0]["embedding"] == VECTORS[0]
