from __future__ import annotations

import pytest

from proxy.tokens.media import Patches, Tiles
from proxy.tokens.models import Models


@pytest.mark.parametrize(
    ("name", "encoding", "template"),
    [
        ("gpt-3.5-turbo", "cl100k_base", "chatml"),
        ("gpt-35-turbo-16k", "cl100k_base", "chatml"),
        ("gpt-3.5-turbo-0301", "cl100k_base", "chatml-0301"),
        ("gpt-4", "cl100k_base", "chatml"),
        ("gpt-4-0613", "cl100k_base", "chatml-0613"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", "chatml"),
        ("text-embedding-3-small", "cl100k_base", "chatml"),
        ("gpt-4o", "o200k_base", "chatml"),
        ("gpt-4.1-nano", "o200k_base", "chatml"),
        ("gpt-4.5-preview", "o200k_base", "chatml"),
        ("chatgpt-4o-latest", "o200k_base", "chatml"),
        ("gpt-4o-mini-search-preview", "o200k_base", "search"),
        ("o1", "o200k_base", "harmony"),
        ("o1-mini", "o200k_base", "chatml"),
        ("o3-mini-2025-01-31", "o200k_base", "o3-mini"),
        ("o4-mini", "o200k_base", "harmony"),
        ("gpt-5.2-chat-latest", "o200k_base", "harmony"),
        ("gpt-oss:120b", "o200k_base", "harmony"),
        ("openai/gpt-4o-mini", "o200k_base", "chatml"),
        ("ft:gpt-3.5-turbo-0125:acme::8Xyz", "cl100k_base", "chatml"),
        ("Qwen/Qwen3-32B", "o200k_base", "chatml"),
        ("", "o200k_base", "chatml"),
    ],
)
def test_a_name_tells_vocabulary_and_template(name: str, encoding: str, template: str) -> None:
    model = Models({}).find(name)
    assert (model.encoding, model.template.name) == (encoding, template)


@pytest.mark.parametrize(
    "name", ["gpt-4", "gpt-4o-mini-2024-07-18", "gpt-4.1", "gpt-5.6-sol", "o3", "ft:gpt-4o:acme::1"]
)
def test_models_with_recorded_usage_are_known(name: str) -> None:
    assert Models({}).find(name).is_recorded


@pytest.mark.parametrize(
    "name", ["gpt-6", "gpt-oss-20b", "llama-3", "gpt-4o-audio-preview", "o1-mini", "gpt-4x", ""]
)
def test_the_formula_is_a_guess_for_other_models(name: str) -> None:
    assert not Models({}).find(name).is_recorded


def test_the_operator_names_the_vocabulary_of_a_model() -> None:
    models = Models({"legacy-*": "cl100k_base", "legacy-new": "o200k_base"})
    assert models.find("legacy-7b").encoding == "cl100k_base"
    assert models.find("legacy-new").encoding == "o200k_base"
    assert models.find("other").encoding == "o200k_base"


def test_the_operator_names_the_model_behind_a_deployment() -> None:
    model = Models({"prod-*": "gpt-4o-mini"}).find("prod-chat")
    assert model == Models({}).find("gpt-4o-mini")


def test_a_meaning_that_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="'prod' stands for 'o200k'"):
        Models({"prod": "o200k"})


def test_a_name_of_any_length_is_found_without_being_kept() -> None:
    models = Models({})
    models.find("x" * 10_000_000)
    assert models.find("x" * 200) == models.find("x" * 300)


def test_models_that_count_alike_share_their_memories() -> None:
    models = Models({})
    assert models.find("gpt-4o").salt == models.find("gpt-4o-2024-08-06").salt
    assert models.find("gpt-4o").salt != models.find("gpt-4o-mini").salt


def test_the_price_of_images_goes_by_the_model() -> None:
    models = Models({})
    assert models.find("gpt-4o").images == Tiles(85, 170)
    assert models.find("gpt-4o-mini").images == Tiles(2833, 5667)
    assert models.find("gpt-4.1-mini").images == Patches(1.62)
