"""The embedded upstream listens, lists its models, and lets others speak in the model's place."""

from __future__ import annotations

import socket

import openai
import pytest
from openai import AsyncOpenAI

from proxy.demo import Upstream, UpstreamError
from proxy.demo import upstream as module
from proxy.demo.bodies import Wishes
from proxy.demo.upstream import MODELS

USER = {"role": "user", "content": "Hi"}


def connected(upstream):
    return AsyncOpenAI(base_url=upstream.base_url, api_key="any", max_retries=0)


async def test_models_are_listed_and_described(client):
    assert [model.id async for model in client.models.list()] == list(MODELS)
    assert (await client.models.retrieve(MODELS[0])).id == MODELS[0]
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await client.models.retrieve("org/other")


async def test_any_name_of_a_model_is_answered(client):
    answer = await client.chat.completions.create(model="acme/large:free", messages=[USER])
    assert answer.model == "acme/large:free"


async def test_another_may_speak_and_what_was_asked_is_kept():
    received = []
    speak = lambda body, choice: {"role": "assistant", "content": f"{body['model']} {choice}"}  # noqa: E731
    async with Upstream(speak, received=received) as upstream, connected(upstream) as client:
        answer = await client.chat.completions.create(model="m", messages=[USER], n=2)
    assert [choice.message.content for choice in answer.choices] == ["m 0", "m 1"]
    assert received == [{"model": "m", "messages": [USER], "n": 2}]


async def test_an_error_of_who_speaks_is_the_answer():
    def speak(body, choice):
        raise UpstreamError(413, "Too long.", code="context_length_exceeded", param="messages")

    async with Upstream(speak) as upstream, connected(upstream) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=[USER])
    error = caught.value
    assert (error.status_code, error.code, error.param) == (
        413,
        "context_length_exceeded",
        "messages",
    )


async def test_a_mistake_of_who_speaks_is_a_500_that_tells_nothing(caplog):
    async with Upstream(lambda body, choice: 1 / 0) as upstream, connected(upstream) as client:  # type: ignore[arg-type,return-value]
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="m", messages=[USER])
    assert "division" not in str(caught.value.body)
    assert "ZeroDivisionError" in caplog.text


async def test_the_address_is_the_one_asked_for_and_free_again_afterwards():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(2):
        async with Upstream(port=port) as upstream:
            assert upstream.base_url == f"http://127.0.0.1:{port}/v1"


def test_every_demand_is_told_of_in_the_documentation():
    assert module.__doc__
    assert [name for name in Wishes.model_fields if name not in module.__doc__] == []
