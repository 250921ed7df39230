"""Holds the formula against what OpenAI's servers have counted."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from proxy.tokens import Tokenizer

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "../shared/data/tokens/recorded_usage.jsonl.gz"


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    if not RECORDED.exists():
        pytest.skip(f"recorded usage is missing: {RECORDED}")
    lines = gzip.decompress(RECORDED.read_bytes())
    pairs: list[dict[str, Any]] = msgspec.json.Decoder().decode_lines(lines)
    return [pair for pair in pairs if not pair["suspect"]]


async def misses(
    tokenizer: Tokenizer, recorded: list[dict[str, Any]], *classes: str
) -> list[tuple[int, int]]:
    """For each pair of these classes how far the count is off, and the tokens of the prompt."""
    found = []
    for pair in recorded:
        if pair["class"] in classes:
            count = await tokenizer.count(pair["request"], model=pair["model"])
            found.append((count.tokens - pair["prompt_tokens"], pair["prompt_tokens"]))
    assert found
    return found


def share(misses: list[tuple[int, int]], within: int = 0) -> float:
    return sum(abs(miss) <= within for miss, _ in misses) / len(misses)


async def test_plain_text(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    assert share(await misses(tokenizer, recorded, "plain")) >= 0.99


async def test_tools(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    found = await misses(tokenizer, recorded, "tools", "tool_turns")
    assert share(found) >= 0.95
    assert share(found, within=3) >= 0.98


async def test_all_text(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    found = await misses(tokenizer, recorded, "plain", "tools", "tool_turns")
    assert share(found) >= 0.97
    assert sum(abs(miss) for miss, _ in found) / len(found) <= 0.5


async def test_formats_of_answers(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    found = await misses(tokenizer, recorded, "json_schema")
    assert share(found) >= 0.95
    assert sum(abs(miss) / tokens for miss, tokens in found) / len(found) <= 0.005


async def test_web_search(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    assert share(await misses(tokenizer, recorded, "websearch"), within=3) == 1


async def test_images_of_known_size(tokenizer: Tokenizer, recorded: list[dict[str, Any]]) -> None:
    images = []
    for pair in recorded:
        count = await tokenizer.count(pair["request"], model=pair["model"])
        if pair["class"] == "media" and count.exactness == "near":
            images.append((count.tokens - pair["prompt_tokens"], pair["prompt_tokens"]))
    assert len(images) > 10
    assert share(images, within=1) == 1


async def test_what_is_called_exact_is_so(
    tokenizer: Tokenizer, recorded: list[dict[str, Any]]
) -> None:
    off = []
    for pair in recorded:
        count = await tokenizer.count(pair["request"], model=pair["model"])
        if count.exactness == "exact":
            off.append((count.tokens - pair["prompt_tokens"], pair["prompt_tokens"]))
    assert share(off) >= 0.98
    assert share(off, within=3) >= 0.995
