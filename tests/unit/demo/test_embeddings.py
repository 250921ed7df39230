"""Embeddings are the same for the same text, and near for similar ones."""

from __future__ import annotations

import math

import openai
import pytest

from proxy.demo.upstream import tokenizer

MODEL = "text-embedding-3-small"


async def embedded(client, text, **fields):
    answer = await client.embeddings.create(model=MODEL, input=text, **fields)
    return [entry.embedding for entry in answer.data]


def product(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_floats_and_base64_are_the_same_vector_of_length_one(client):
    [floats] = await embedded(client, "Hello", encoding_format="float")
    [decoded] = await embedded(client, "Hello")  # the client asks for base64
    assert floats == decoded
    assert len(floats) == 1536
    assert math.isclose(math.hypot(*floats), 1, abs_tol=1e-6)


async def test_base64_is_what_the_client_gets_if_it_insists(client):
    answer = await client.embeddings.create(
        model=MODEL, input="Hello", dimensions=3, encoding_format="base64"
    )
    assert isinstance(answer.data[0].embedding, str)
    assert len(answer.data[0].embedding) == 16


async def test_similar_texts_lie_nearer_than_others(client):
    near, text, far = await embedded(
        client, ["When do you open?", "When are you open today?", "My parcel is lost"]
    )
    assert product(text, near) > 2 * abs(product(text, far))


async def test_dimensions_are_those_asked_for(client):
    assert len((await embedded(client, "Hello", dimensions=8))[0]) == 8


async def test_usage_is_what_the_tokenizer_counts(client):
    texts = ["Hello there", "When do you open?"]
    answer = await client.embeddings.create(model=MODEL, input=texts)
    counts = [await tokenizer().count_text(text, MODEL) for text in texts]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(counts)


async def test_tokens_are_taken_for_texts(client):
    answer = await client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4]])
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 4
    assert len((await client.embeddings.create(model=MODEL, input=[1, 2, 3])).data) == 1


@pytest.mark.parametrize("wrong", [[""], [[]], [None], ["a", 1]])
async def test_an_input_that_cannot_be_embedded_is_refused(client, wrong):
    with pytest.raises(openai.BadRequestError):
        await client.embeddings.create(model=MODEL, input=wrong)
